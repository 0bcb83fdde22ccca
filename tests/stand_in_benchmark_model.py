"""Stands in for TFLite's `benchmark_model`: measures for real with LiteRT, prints in its format.

Run as a program, with the tool's own options. It is not the tool: it knows no GPU, and starting
Python takes a quarter of a second. `write_program` makes what can be pushed to a board.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_XNNPACK = "XNNPACK"
_COLUMNS = "[node type]", "[first]", "[avg ms]", "[%]", "[cdf%]", "[mem KB]", "[times called]"


def write_program(path: Path, *options: str) -> Path:
    """A script that runs this file with this Python, and with options before those it is given."""
    words = " ".join(f"'{word}'" for word in (sys.executable, "-I", __file__, *options))
    path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    path.chmod(0o755)
    return path


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--graph", required=True)
    parser.add_argument("--num_threads", type=int, default=1)
    parser.add_argument("--num_runs", type=int, default=50)
    parser.add_argument("--warmup_runs", type=int, default=1)
    parser.add_argument("--min_secs", type=float, default=1.0)
    parser.add_argument("--warmup_min_secs", type=float, default=0.5)
    parser.add_argument("--max_secs", type=float, default=150.0)
    parser.add_argument("--use_xnnpack", default="true")
    parser.add_argument("--use_gpu", default="false")
    parser.add_argument("--enable_op_profiling", default="false")
    parser.add_argument("--style", choices=["new", "old"], default="new")
    options, unknown = parser.parse_known_args()
    say = _say_new if options.style == "new" else _say_old
    say("STARTING!")
    if unknown:
        say(f"Unconsumed cmdline flags: {' '.join(unknown)}")
    say("Log parameter values verbosely: [0]")
    say(f"Graph: [{options.graph}]")
    if options.use_gpu == "true":
        say("GPU acceleration is unsupported on this platform.")
    try:
        data = Path(options.graph).read_bytes()
    except OSError:
        print(f"ERROR: Could not open '{options.graph}'.", file=sys.stderr)
        return _failed(say, f"Failed to load model {options.graph}")
    return _benchmark(options, data, say)


def _benchmark(options: Any, data: bytes, say: Callable[[str], None]) -> int:
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.AUTO
    if options.use_xnnpack != "true":
        resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    begin = time.perf_counter()
    try:
        interpreter = Interpreter(
            model_content=data,
            num_threads=options.num_threads,
            experimental_op_resolver_type=resolver,
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return _failed(say, f"Failed to load model {options.graph}")
    init = time.perf_counter() - begin
    rng = np.random.default_rng(0)
    for tensor in interpreter.get_input_details():
        values = rng.random(tensor["shape"]).astype(tensor["dtype"])
        interpreter.set_tensor(tensor["index"], values)
    say(f"Loaded model {options.graph}")
    if options.use_xnnpack == "true":
        _say_delegate(interpreter, say)
    say(f"The input model file size (MB): {len(data) / 1e6:g}")
    say(f"Initialized session in {init * 1e3:g}ms.")
    warm = _run(interpreter.invoke, options.warmup_runs, options.warmup_min_secs, options, say)
    timed = _run(interpreter.invoke, options.num_runs, options.min_secs, options, say)
    averages = [f"{statistics.fmean(values):g}" for values in (warm, timed)]
    if options.style == "new":
        say(
            f"Inference timings in us: Init: {init * 1e6:.0f}, First inference: {warm[0]}, "
            f"Warmup (avg): {averages[0]}, Inference (avg): {averages[1]}"
        )
    else:
        say(
            f"Average inference timings in us: Warmup: {averages[0]}, Init: {init * 1e6:.0f}, "
            f"no stats: {averages[1]}"
        )
    say("Memory footprint delta from the start of the tool (MB): init=1.5 overall=2.25")
    if options.enable_op_profiling == "true":
        _say_operators(interpreter, data, options, say)
    return 0


def _run(
    invoke: Callable[[], object],
    least: int,
    seconds: float,
    options: Any,
    say: Callable[[str], None],
) -> list[int]:
    """Whole microseconds of each inference, as the tool's clock has them."""
    say(
        f"Running benchmark for at least {least} iterations and at least {seconds:g} seconds but "
        f"terminate if exceeding {options.max_secs:g} seconds."
    )
    begin = time.perf_counter()
    took: list[int] = []
    while (
        len(took) < least or time.perf_counter() - begin < seconds
    ) and time.perf_counter() - begin <= options.max_secs:
        start = time.perf_counter_ns() // 1000
        invoke()
        took.append(time.perf_counter_ns() // 1000 - start)
    if min(took) == max(took):
        line = f"count={len(took)} curr={took[-1]}"
    else:
        line = (
            f"count={len(took)} first={took[0]} curr={took[-1]} min={min(took)} max={max(took)} "
            f"avg={statistics.fmean(took):g} std={statistics.pstdev(took):.0f}"
        )
    if options.style == "new":
        line += f" p5={min(took)} median={statistics.median(took):.0f} p95={max(took)}"
    say(line)
    print(flush=True)
    return took


def _say_delegate(interpreter: Any, say: Callable[[str], None]) -> None:
    details = interpreter._get_ops_details()
    nodes = [node for node in details if node["op_name"] == "DELEGATE"]
    left = _worker_operators().outside(
        details, [tensor["index"] for tensor in interpreter.get_output_details()]
    )
    print(f"INFO: Created TensorFlow Lite {_XNNPACK} delegate for CPU.", file=sys.stderr)
    if not nodes:
        say(
            f"Though {_XNNPACK} delegate is explicitly applied, the model graph will not be "
            "executed by the delegate."
        )
        return
    how = "completely executed by the delegate."
    if left:
        how = f"partially executed by the delegate w/ {len(nodes)} delegate kernels."
    say(f"Explicitly applied {_XNNPACK} delegate, and the model graph will be {how}")


def _say_operators(interpreter: Any, data: bytes, options: Any, say: Callable[[str], None]) -> None:
    from importlib.metadata import version

    inputs = [interpreter.get_tensor(t["index"]).tobytes() for t in interpreter.get_input_details()]
    found = _worker_operators().operators(
        data,
        inputs,
        interpreter._get_ops_details(),
        interpreter.invoke,
        version=version("ai-edge-litert"),
        threads=options.num_threads,
        runs=options.num_runs,
        clock=time.perf_counter,
    )["operators"]
    say("Profiling Info for Benchmark Initialization:")
    _print_table([("AllocateTensors", [1e-4], "AllocateTensors/0")])
    say("Operator-wise Profiling Info for Regular Benchmark Runs:")
    alone = [
        (o["kind"].upper(), o["seconds"], f"[{o['kind']}]:{o['index']}")
        for o in found
        if o["delegate"] is None
    ]
    inside = [
        (o["name"], o["seconds"], f"Delegate/{o['name']}:{place}")
        for place, o in enumerate(o for o in found if o["delegate"] is not None)
    ]
    if inside:
        whole = [sum(values) for values in zip(*(row[1] for row in inside), strict=True)]
        alone.append(("TfLiteXNNPackDelegate", whole, f"[output]:{len(alone) + len(inside)}"))
    _print_table(alone)
    if inside:
        print("Delegate internal: ")
        _print_table(inside)


def _print_table(rows: Sequence[tuple[str, Sequence[float], str]]) -> None:
    print("=" * 30 + " Run Order " + "=" * 30)
    print("".join(f"\t{name:>24}" for name in _COLUMNS) + "\t[Name]")
    for kind, seconds, name in rows:
        mean = 1e3 * statistics.fmean(seconds)
        first = 1e3 * seconds[0]
        print(f"\t{kind:>24}\t{first:9.3f}\t{mean:9.3f}\t0.0%\t0.0%\t0.000\t1\t{name}")
    print()
    print("=" * 30 + " Top by Computation Time " + "=" * 30)
    print()
    print(f"Number of nodes executed: {len(rows)}")
    print("Timings (microseconds): count=1 curr=1356")
    print(f"{len(rows)} nodes observed\n", flush=True)


def _worker_operators() -> Any:
    sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "profiler"))
    import worker_operators  # type: ignore[import-not-found]

    return worker_operators


def _failed(say: Callable[[str], None], words: str) -> int:
    say(words)
    say("Benchmarking failed.")
    return 1


def _say_new(words: str) -> None:
    print(f"INFO: {words}", file=sys.stderr, flush=True)


def _say_old(words: str) -> None:
    print(words, flush=True)


if __name__ == "__main__":
    sys.exit(main())
