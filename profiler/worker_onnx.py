"""ONNX Runtime for the worker: lies beside `worker.py` on a board, and needs no more than it.

It needs Python 3.8 or newer, NumPy, and onnxruntime (any of its packages, such as onnxruntime-gpu).
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

NAME = "onnxruntime"
CPU = "CPUExecutionProvider"
WARM_UP_RUNS = 2  # of a profiled session: the first runs allocate
_SUFFIX = "_kernel_time"  # of the events that ONNX Runtime's profile has for each node
_CONTROL_FLOW = ("If", "Loop", "Scan")
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    **{f"tensor({name})": name for name in ("float16", "bool")},
    **{f"tensor({s}int{bits})": f"{s}int{bits}" for s in ("", "u") for bits in (8, 16, 32, 64)},
}


class OnnxRuntime:
    """ONNX Runtime with the execution providers that were asked for, and no others in secret.

    `wanted` is `onnxruntime`, which means the CPU, or `onnxruntime:` and names of providers with
    commas, the preferred one first; `cuda` is short for `CUDAExecutionProvider`. Where the CPU is
    not among them, a model with a node that none of them runs is refused.
    """

    def __init__(self, wanted: str) -> None:
        # Since 1.29 it reports models to its makers unless told otherwise: nobody's measurement
        # should, and its thread would disturb it.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        try:
            import onnxruntime
        except Exception as error:  # a wheel for another libc or NumPy fails in many ways
            raise RuntimeError(f"no ONNX Runtime ({error}); install onnxruntime") from None
        self._package = onnxruntime
        available = onnxruntime.get_available_providers()
        names = {name.lower(): name for name in available}
        self._providers: list[str] = []
        for name in wanted.partition(":")[2].split(",") if ":" in wanted else [CPU]:
            plain = name.strip().lower()
            found = names.get(plain) or names.get(plain + "executionprovider")
            if found is None:
                raise RuntimeError(
                    f"this onnxruntime has no execution provider {name.strip()!r}; it has "
                    f"{', '.join(available)}: give one of them, or install the package of "
                    "onnxruntime that has it"
                )
            self._providers.append(found)
        # Part of a measurement's conditions: times of different providers are never mixed.
        plain_cpu = self._providers == [CPU]
        self.name = NAME if plain_cpu else f"{NAME}:{','.join(self._providers)}"
        self.version = onnxruntime.__version__

    @property
    def preferred(self) -> str:
        """The provider that should run everything."""
        return self._providers[0]

    @property
    def may_fall_back(self) -> bool:
        """Whether nodes may run on another provider than the preferred one."""
        return len(self._providers) > 1

    def load(self, data: bytes, threads: int) -> OnnxModel:
        """Build a session for a model given as bytes."""
        return OnnxModel(self, data, threads)

    def session(self, data: bytes, threads: int, profile: str | None = None) -> Any:
        """A session that runs on the providers asked for; `profile` begins its profile's name.

        Raises RuntimeError where another provider would run a part of the model.
        """
        strict = CPU not in self._providers
        try:
            session = self._create(data, threads, profile, strict)
        except Exception as error:
            if not strict or "fallback" not in str(error):
                raise
            self._require_all(self._create(data, threads, None, strict=False))
            raise RuntimeError(
                f"{', '.join(self._providers)} cannot run all of the model ({error}); to let the "
                f"CPU run the rest, say --runtime {self.name},{CPU}"
            ) from None
        self._require_all(session)
        return session

    def _create(self, data: bytes, threads: int, profile: str | None, strict: bool) -> Any:
        options = self._package.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        if threads == 1:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if strict:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = profile
        return self._package.InferenceSession(
            data, options, providers=self._providers, enable_fallback=0
        )

    def _require_all(self, session: Any) -> None:
        """What cannot start (a driver is missing, say) was left out in silence."""
        used = session.get_providers()
        missing = [name for name in self._providers if name not in used]
        if missing:
            raise RuntimeError(
                f"onnxruntime did not use {', '.join(missing)}, only {', '.join(used)}; see "
                "whether its driver and libraries are installed, or give another --runtime"
            )


class OnnxModel:
    """A model that is loaded, with random inputs bound, so that a run is nothing else."""

    def __init__(self, runtime: OnnxRuntime, data: bytes, threads: int) -> None:
        self._runtime = runtime
        self._open = partial(runtime.session, data, threads)
        self._session = self._open()
        self._inputs = _random_inputs(self._session)
        self.invoke = _bound(self._session, self._inputs)

    def predict(self, data: bytes) -> bytes:
        """One inference: float32 bytes in, float32 bytes of the first output out."""
        first = self._session.get_inputs()[0].name
        image = np.frombuffer(data, np.float32).reshape(self._inputs[first].shape)
        (output,) = self._session.run(
            [self._session.get_outputs()[0].name], {**self._inputs, first: image}
        )
        return np.ascontiguousarray(output, np.float32).tobytes()

    def placement(self) -> list[list[Any]] | None:
        """Index and kind of each node that the preferred provider does not run; None for a graph
        whose profile does not tell (loops, conditions)."""
        if not self._runtime.may_fall_back:
            return []
        try:
            nodes = self.operators(1, time.perf_counter)["operators"]
        except ValueError:
            return None
        preferred = self._runtime.preferred
        return [[node["index"], node["kind"]] for node in nodes if node["delegate"] != preferred]

    def operators(self, runs: int, clock: Callable[[], float]) -> dict[str, Any]:
        """Times of each node of the optimised graph, from ONNX Runtime's own profile.

        Whole runs of the profiled session and of the plain one alternate, so that the cost of
        profiling can be seen. Nodes come in the order in which they run.
        """
        if runs < 1:
            raise ValueError(f"{runs} runs give no times")
        with tempfile.TemporaryDirectory(prefix="boardfit-") as folder:
            session = self._open(os.path.join(folder, "profile"))
            profiled_invoke = _bound(session, self._inputs)
            for _ in range(WARM_UP_RUNS):
                self.invoke()
                profiled_invoke()
            profiled: list[float] = []
            plain: list[float] = []
            for _ in range(runs):
                for invoke, seconds in ((profiled_invoke, profiled), (self.invoke, plain)):
                    start = clock()
                    invoke()
                    seconds.append(clock() - start)
            with open(session.end_profiling(), encoding="utf-8") as file:
                events = json.load(file)
        return {
            "operators": read_profile(events, WARM_UP_RUNS + runs, WARM_UP_RUNS),
            "profiled": profiled,
            "plain": plain,
        }


def read_profile(events: list[dict[str, Any]], runs: int, warm_up: int) -> list[dict[str, Any]]:
    """The nodes of a profile with their times in seconds, without those of the warm-up runs.

    ONNX Runtime counts whole microseconds. Raises ValueError where a node was not seen once a run.
    """
    nodes: dict[str, dict[str, Any]] = {}
    for event in events:
        name = event["name"]
        if event["cat"] != "Node" or not name.endswith(_SUFFIX):
            continue
        details = event["args"]
        if details["op_name"] in _CONTROL_FLOW:
            raise ValueError(
                f"the model has a {details['op_name']}: times of the operators inside of it cannot "
                "be told apart"
            )
        operator = nodes.setdefault(
            details["node_index"],
            {
                "name": name[: -len(_SUFFIX)] or details["op_name"],
                "kind": details["op_name"],
                "index": len(nodes),
                "delegate": details["provider"],
                "seconds": [],
            },
        )
        operator["seconds"].append(event["dur"] / 1e6)
    for operator in nodes.values():
        seen = len(operator["seconds"])
        if seen != runs:
            raise ValueError(
                f"onnxruntime's profile has {seen} times of {operator['name']} in {runs} runs; ask "
                "for fewer runs"
            )
        del operator["seconds"][:warm_up]
    return list(nodes.values())


def _random_inputs(session: Any) -> dict[str, Any]:
    """Values for every input; sizes that the model leaves open are 1."""
    rng = np.random.default_rng(0)
    found = {}
    for tensor in session.get_inputs():
        if tensor.type not in _DTYPES:
            raise RuntimeError(f"the input {tensor.name} is a {tensor.type}, not numbers")
        shape = [size if isinstance(size, int) and size > 0 else 1 for size in tensor.shape]
        dtype = np.dtype(_DTYPES[tensor.type])
        values = rng.random(shape) if dtype.kind == "f" else rng.integers(0, 2, shape)
        found[tensor.name] = values.astype(dtype)
    return found


def _bound(session: Any, inputs: dict[str, Any]) -> Callable[[], object]:
    """A run without anything to look up: inputs are where the provider wants them."""
    binding = session.io_binding()
    for name, values in inputs.items():
        binding.bind_cpu_input(name, values)
    for tensor in session.get_outputs():
        binding.bind_output(tensor.name)
    return lambda: session.run_with_iobinding(binding)
