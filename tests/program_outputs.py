"""What `benchmark_model` and `trtexec` print, of several generations, and ways to spoil it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping

from boardfit.profiler.read_benchmark_model import parse_benchmark_model, words_of_failure
from boardfit.profiler.read_trtexec import (
    parse_profile,
    parse_summary,
    parse_times,
    parse_version,
)
from boardfit.profiler.read_trtexec import words_of_failure as words_of_trtexec

from .mutations import mutate_json

_TABLE = (
    "\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t"
    "[times called]\t[Name]\n"
)

# A Raspberry Pi of 2020, without a delegate, in microseconds that need an exponent.
SLOW = """STARTING!
Log parameter values verbosely: [0]
Num threads: [4]
Graph: [./mobilenet_v1_1.0_224.tflite]
Enable op profiling: [1]
#threads used for CPU inference: [4]
Loaded model ./mobilenet_v1_1.0_224.tflite
The input model file size (MB): 16.9008
Initialized session in 17.187ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150\
 seconds.
count=1 curr=3512391

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150\
 seconds.
count=50 first=2990275 curr=2913402 min=2727568 max=3189954 avg=2.95034e+06 std=109798

Inference timings in us: Init: 17187, First inference: 3512391, Warmup (avg): 3.51239e+06,\
 Inference (avg): 2.95034e+06
Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to\
 the actual memory footprint of the model at runtime. Take the information at your discretion.
Memory footprint delta from the start of the tool (MB): init=4.21094 overall=46.0859
Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
\t             [node type]\t    [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t\
[times called]\t[Name]
\t         AllocateTensors\t            0.000\t    1.356\t    1.356\t100.000%\t100.000%\t 0.000\t\
        1\tAllocateTensors/0

Number of nodes executed: 1
============================== Summary by node type ==============================
\t             [Node type]\t  [count]\t  [avg ms]\t [avg %]\t [cdf %]\t  [mem KB]\t[times called]
\t         AllocateTensors\t        1\t     1.356\t   100.000%\t   100.000%\t 0.000\t        1

Timings (microseconds): count=1 curr=1356
Memory (bytes): count=0
1 nodes observed

Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
\t             [node type]\t    [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t\
[times called]\t[Name]
\t                 CONV_2D\t            0.066\t   87.754\t   60.957\t  2.066%\t  2.066%\t 0.000\t\
        1\t[MobilenetV1/MobilenetV1/Conv2d_0/Relu6]:0
\t       DEPTHWISE_CONV_2D\t           61.033\t   53.628\t   49.870\t  1.691%\t  3.757%\t 0.000\t\
        1\t[MobilenetV1/MobilenetV1/Conv2d_1_depthwise/Relu6]:1
\t                 SOFTMAX\t         2950.011\t    0.230\t    0.233\t  0.008%\t100.000%\t 0.000\t\
        1\t[MobilenetV1/Predictions/Reshape_1]:30

============================== Top by Computation Time ==============================
\t             [node type]\t    [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t\
[times called]\t[Name]
\t                 CONV_2D\t            0.066\t   87.754\t   60.957\t  2.066%\t  2.066%\t 0.000\t\
        1\t[MobilenetV1/MobilenetV1/Conv2d_0/Relu6]:0

Number of nodes executed: 31
Timings (microseconds): count=50 first=2989660 curr=2912978 min=2727203 max=3189476 avg=2.9499e+06\
 std=109770
Memory (bytes): count=0
31 nodes observed
"""

# Of 2024: every line marked, quantiles, a delegate that takes a part and tells what it ran.
NEW = (
    """INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Num threads: [4]
INFO: Graph: [m.tflite]
INFO: Use xnnpack: [1]
INFO: Loaded model m.tflite
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: XNNPACK delegate created.
VERBOSE: Replacing 2 out of 3 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 2\
 partitions for subgraph 0.
INFO: Explicitly applied XNNPACK delegate, and the model graph will be partially executed by the\
 delegate w/ 1 delegate kernels.
INFO: The input model file size (MB): 67.3128
INFO: Initialized session in 614.333ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if\
 exceeding 150 seconds.
INFO: count=1 curr=905463 p5=905463 median=905463 p95=905463

INFO: Running benchmark for at least 3 iterations and at least 0 seconds but terminate if exceeding\
 150 seconds.
INFO: count=3 first=900416 curr=898333 min=898007 max=900416 avg=898919 std=1549 p5=898007\
 median=898333 p95=900416

INFO: Inference timings in us: Init: 614333, First inference: 905463, Warmup (avg): 905463,\
 Inference (avg): 898919
INFO: Memory footprint delta from the start of the tool (MB): init=21.5 overall=109.832
INFO: Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
"""
    + _TABLE
    + """\t   TfLiteXNNPackDelegate\t  800.1\t  800.2\t 89.0%\t 89.0%\t 0.000\t 1\t[a, b]:3
\t              HARD_SWISH\t   98.1\t   98.2\t 11.0%\t100.0%\t 0.000\t 1\t[c d]:2

Number of nodes executed: 2
2 nodes observed

Delegate internal: 
============================== Run Order ==============================
"""
    + _TABLE
    + """\tConvolution (NHWC, F32) IGEMM\t 700.1\t 700.2\t 89.0%\t 89.0%\t 0.000\t 1\t\
Delegate/Convolution (NHWC, F32) IGEMM:0
\tClamp (NC, F32)\t 99.9\t 100.0\t 89.0%\t 89.0%\t 0.000\t 1\tDelegate/Clamp (NC, F32):1

Number of nodes executed: 2
"""
)

# A phone of 2022 through logcat, and another delegate.
LOGCAT = """05-30 15:16:44.857  3380  3380 I tflite  : Explicitly applied NNAPI delegate, and the\
 model graph will be completely executed by the delegate.
05-30 15:16:44.858  3380  3380 I tflite  : Initialized session in 126.059ms.
05-30 15:16:45.362  3380  3380 I tflite  : count=40 first=32942 curr=12594 min=11340 max=32942\
 avg=12581.9 std=3331
05-30 15:16:46.365  3380  3380 I tflite  : count=75 first=12840 curr=11853 min=11787 max=13649\
 avg=12167.6 std=325
05-30 15:16:46.366  3380  3380 I tflite  : Inference timings in us: Init: 126059, First inference:\
 32942, Warmup (avg): 12581.9, Inference (avg): 12167.6
"""

# Of 2019.
OLD = """Loaded model m.tflite
resolved reporter
Initialized session in 9.933ms
Running benchmark for at least 4 iterations and at least 0.5 seconds
count=7 first=127425 curr=66709 min=66709 max=127425 avg=76605.9 std=20944

Running benchmark for at least 10 iterations and at least 1 seconds
count=15 first=66753 curr=66800 min=66699 max=66838 avg=66767.6 std=39

Average inference timings in us: Warmup: 76605.9, Init: 9933, no stats: 66767.6
"""

FAILED = """INFO: STARTING!
ERROR: Didn't find op for builtin opcode 'CONV_2D' version '9'
ERROR: Registration failed.
INFO: Failed to construct interpreter
INFO: Benchmarking failed.
"""

BENCHMARKS = (SLOW, NEW, LOGCAT, OLD, FAILED)

# TensorRT 8 and later, 6 and 7, and before.
TRTEXEC_NEW = """&&&& RUNNING TensorRT.trtexec [TensorRT v8502] # trtexec --loadEngine=m.engine
[08/11/2022-06:55:33] [I] === Performance summary ===
[08/11/2022-06:55:33] [I] Throughput: 233.689 qps
[08/11/2022-06:55:33] [I] Latency: min = 4.51123 ms, max = 5.53139 ms, mean = 4.54566 ms, median =\
 4.52756 ms, percentile(99%) = 5.51622 ms
[08/11/2022-06:55:33] [I] GPU Compute Time: min = 4.23773 ms, max = 5.25439 ms, mean = 4.26986 ms,\
 median = 4.25195 ms, percentile(99%) = 5.24138 ms
[08/11/2022-06:55:33] [I] Total GPU Compute Time: 3.00598 s
&&&& PASSED TensorRT.trtexec [TensorRT v8502] # trtexec --loadEngine=m.engine
"""
TRTEXEC_SEVEN = """&&&& RUNNING TensorRT.trtexec # trtexec --onnx=ADNet.onnx
[09/27/2021-11:20:55] [I] TensorRT version: 7.2.3
[09/27/2021-11:20:55] [I] Host Latency
[09/27/2021-11:20:55] [I] min: 8.9716 ms (end to end 108.17 ms)
[09/27/2021-11:20:55] [I] mean: 9.0049 ms (end to end 109.226 ms)
[09/27/2021-11:20:55] [I] GPU Compute
[09/27/2021-11:20:55] [I] min: 7.94897 ms
[09/27/2021-11:20:55] [I] max: 12.2207 ms
[09/27/2021-11:20:55] [I] mean: 8.39391 ms
[09/27/2021-11:20:55] [I] median: 8.30371 ms
[09/27/2021-11:20:55] [I] percentile: 11.1882 ms at 99%
[09/27/2021-11:20:55] [I] total compute time: 3.01341 s
"""
TRTEXEC_FIVE = """name=prob, bindingIndex=1, buffers.size()=2
Average over 10 runs is 12.8707 ms.
Average over 10 runs is 12.9181 ms (host walltime is 13.1 ms, 99% percentile time is 13.5).
"""
TRTEXEC = (TRTEXEC_NEW, TRTEXEC_SEVEN, TRTEXEC_FIVE)
TIMES = json.dumps(
    [
        {"startComputeMs": 10.5 + i, "endComputeMs": 11.75 + i, "computeMs": 1.25, "latencyMs": 2.0}
        for i in range(3)
    ]
)
PROFILE = json.dumps(
    [
        {"count": 100},
        {"name": "conv1 + relu", "timeMs": 80.0, "averageMs": 0.8, "percentage": 80.0},
        {"name": "fc", "timeMs": 20.0, "averageMs": 0.2, "medianMs": 0.2, "percentage": 20.0},
    ]
)

_STRANGE = (
    *("", "0", "-1", "1", "nan", "inf", "-inf", "1e999", "1e-999", "2.95034e+06", "9" * 400),
    *("0x10", "1_000", "\u0663", "1.", ".5", "1e", "--", "None", "\0", "\x1b[31m", "$(touch x)"),
)


def mutate_text(text: str, rng: random.Random) -> str:
    """Words for people, changed in their numbers, letters or lines."""
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        lines = text.split("\n")
        place = rng.randrange(len(lines))
        words = lines[place].split(" ")
        word = rng.randrange(len(words))
        what = rng.randrange(10)
        if what <= 3:  # a number, where there is one
            name, equals, _ = words[word].rpartition("=")
            words[word] = f"{name}{equals}{rng.choice(_STRANGE)}"
            lines[place] = " ".join(words)
        elif what == 4:
            del lines[place : place + rng.choice([1, 1, 5])]
        elif what == 5:
            lines[place:place] = lines[place : place + 3] * rng.choice([1, 2, 300])
        elif what == 6:
            other = rng.randrange(len(lines))
            lines[place], lines[other] = lines[other], lines[place]
        elif what == 7:
            lines[place] = lines[place][: rng.randrange(len(lines[place]) + 1)]
        elif what == 8:
            lines[place] += rng.choice(
                ["\t" * 1000, "=" * 100_000, " count=1", "\r", "\x85", "a" * 50]
            )
        else:
            at = rng.randrange(len(text) + 1)
            text = rng.choice([text[:at], text[at:], text[:at] + "\ufffd" * 9 + text[at:]])
            continue
        text = "\n".join(lines)
    return text


def read_benchmark_text(text: str) -> None:
    """All that is done with an output; what comes of it must be possible."""
    assert 0 < len(words_of_failure(text)) < 1000
    found = parse_benchmark_model(text)
    for stretch in (found.inference, found.warmup):
        if stretch is not None:
            assert stretch.count >= 1
            assert 0 <= stretch.least <= stretch.most < 1e10
            assert len(stretch.each) in (0, stretch.count)
            assert all(stretch.least <= value <= stretch.most for value in stretch.each)
    assert all(0 <= operator.seconds < 1e10 for operator in found.operators)


def read_trtexec_text(text: str) -> None:
    """All that is done with an output; what comes of it must be possible."""
    assert 0 < len(words_of_trtexec(text)) < 2000
    parse_version(text)
    assert 0 <= parse_summary(text).mean < 1e10


def _spoilt(texts: tuple[str, ...], read: Callable[[str], None]) -> Callable[[random.Random], None]:
    return lambda rng: read(mutate_text(rng.choice(texts), rng))


def trtexec_files(rng: random.Random) -> None:
    """Read a spoilt file of times, or of layers."""
    if rng.random() < 0.5:
        spoilt = mutate_json(TIMES.encode(), rng).decode(errors="replace")
        assert min(parse_times(spoilt)) > 0
    else:
        spoilt = mutate_json(PROFILE.encode(), rng).decode(errors="replace")
        assert all(layer.seconds >= 0 for layer in parse_profile(spoilt))


OUTPUTS: Mapping[str, Callable[[random.Random], None]] = {
    "benchmark_model outputs": _spoilt(BENCHMARKS, read_benchmark_text),
    "trtexec outputs": _spoilt(TRTEXEC, read_trtexec_text),
    "trtexec files": trtexec_files,
}
