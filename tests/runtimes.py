"""Models run in this process, for tests of what is emitted."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest

from boardfit.profiler.layers import FloatArray

litert = pytest.importorskip("ai_edge_litert.interpreter")


def run_litert(model: bytes, *images: FloatArray) -> FloatArray:
    """The output of a TFLite model; neither images nor output have the batch."""
    interpreter: Any = litert.Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    for tensor, image in zip(interpreter.get_input_details(), images, strict=True):
        interpreter.set_tensor(tensor["index"], image[None])
    interpreter.invoke()
    output: FloatArray = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    only: FloatArray = output[0]
    return only


def run_onnx(model: bytes, *images: FloatArray) -> FloatArray:
    """Images and output have their channels last; the model has them first."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session: Any = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feeds = {
        tensor.name: np.ascontiguousarray(np.moveaxis(image[None], -1, 1))
        for tensor, image in zip(session.get_inputs(), images, strict=True)
    }
    (output,) = session.run(None, feeds)
    only: FloatArray = np.moveaxis(output, 1, -1)[0]
    return only
