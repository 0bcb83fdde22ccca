"""Stands in for TensorRT's `trtexec`: measures for real with ONNX Runtime, writes its formats.

Run as a program, with the tool's own options. What it calls an engine is the model with a mark in
front. `write_program` makes what a board has in its path.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

_MARK = b"an engine of the stand-in\n"


def write_program(folder: Path, *options: str) -> Path:
    """A script `trtexec` in a folder, with options before those that it is given."""
    folder.mkdir(exist_ok=True)
    path = folder / "trtexec"
    words = " ".join(f"'{word}'" for word in (sys.executable, "-I", __file__, *options))
    path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    path.chmod(0o755)
    return path


def main() -> int:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--help", action="store_true")
    parser.add_argument("--onnx")
    parser.add_argument("--saveEngine")
    parser.add_argument("--loadEngine")
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--warmUp", type=float, default=200)
    parser.add_argument("--duration", type=float, default=3)
    parser.add_argument("--avgRuns", type=int, default=10)
    parser.add_argument("--exportTimes")
    parser.add_argument("--exportProfile")
    parser.add_argument("--separateProfileRun", action="store_true")
    parser.add_argument("--generation", type=int, default=8)
    options = parser.parse_args()
    version = f" [TensorRT v{options.generation}502]" if options.generation >= 8 else ""
    print(f"&&&& RUNNING TensorRT.trtexec{version} # {' '.join(sys.argv)}")
    if options.help:
        print("=== Model Options ===")
        return 0
    passed = _work(options)
    print(f"&&&& {'PASSED' if passed else 'FAILED'} TensorRT.trtexec{version}")
    return 0 if passed else 1


def _work(options: Any) -> bool:
    if options.saveEngine:
        return _build(options)
    import numpy as np
    import onnxruntime

    try:
        data = Path(options.loadEngine).read_bytes()
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        settings.log_severity_level = 4
        session: Any = onnxruntime.InferenceSession(
            data.removeprefix(_MARK), settings, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        _say(f"{str(error).splitlines()[0]}", "E")
        return False
    rng = np.random.default_rng(0)
    feeds = {
        tensor.name: rng.random(tensor.shape).astype(np.float32) for tensor in session.get_inputs()
    }
    warm_until = time.perf_counter() + options.warmUp / 1e3
    while time.perf_counter() < warm_until:
        session.run(None, feeds)
    took = []
    for _ in range(options.iterations):
        start = time.perf_counter()
        session.run(None, feeds)
        took.append((time.perf_counter() - start) * 1e3)
    _say_summary(took, options.generation)
    if options.exportTimes:
        at = 0.0
        rows = []
        for value in took:
            rows.append({"startComputeMs": at, "computeMs": value, "latencyMs": value + 0.1})
            at += value
        _write(options.exportTimes, rows)
    if options.exportProfile:
        half = statistics.fmean(took) / 2
        layers = [{"name": name, "timeMs": half, "averageMs": half} for name in ("first", "rest")]
        _write(options.exportProfile, [{"count": len(took)}, *layers])
    return True


def _build(options: Any) -> bool:
    """Nothing is compiled here; a model that is none is told by what boardfit writes into its."""
    data = Path(options.onnx).read_bytes()
    if b"boardfit" not in data[:100]:
        _say("Failed to parse ONNX model", "E")
        _say("Engine could not be created from network", "E")
        return False
    Path(options.saveEngine).write_bytes(_MARK + data)
    return True


def _say_summary(took: list[float], generation: int) -> None:
    found = {
        "min": min(took),
        "max": max(took),
        "mean": statistics.fmean(took),
        "median": statistics.median(took),
    }
    if generation >= 8:
        _say("=== Performance summary ===")
        _say("GPU Compute Time: " + ", ".join(f"{n} = {v:g} ms" for n, v in found.items()))
    elif generation >= 6:
        _say("GPU Compute")
        for name, value in found.items():
            _say(f"{name}: {value:g} ms")
    else:
        print(f"Average over {len(took)} runs is {found['mean']:g} ms.")


def _say(words: str, level: str = "I") -> None:
    print(f"[08/11/2022-06:55:33] [{level}] {words}")


def _write(path: str, rows: list[dict[str, Any]]) -> None:
    lines = "\n, ".join(json.dumps(row) for row in rows)
    Path(path).write_text(f"[\n  {lines}\n]\n")


if __name__ == "__main__":
    sys.exit(main())
