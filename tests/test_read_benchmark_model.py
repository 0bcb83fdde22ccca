"""What `benchmark_model` prints, in the words of several years."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boardfit.devices.errors import WorkerError
from boardfit.profiler.read_benchmark_model import (
    TEXT_LIMIT,
    parse_benchmark_model,
    words_of_failure,
)

from .program_outputs import FAILED, LOGCAT, NEW, OLD, SLOW, mutate_text


def timed(line: str, mean: str) -> str:
    """The least that an invocation prints."""
    return f"{line}\nInference timings in us: Init: 5, Inference (avg): {mean}\n"


def test_averages_with_an_exponent() -> None:
    found = parse_benchmark_model(SLOW)
    assert found.inference.count == 50
    assert found.inference.mean == pytest.approx(2.95034)
    assert found.inference.least == pytest.approx(2.727568)
    assert found.warmup is not None
    assert found.warmup.each == (3.512391,)
    assert found.init_seconds == pytest.approx(0.017187)
    assert found.memory == pytest.approx(46.0859e6)
    assert (found.delegate, found.share) == (None, None)
    # The tables of the initialisation, and those in another order, are not the operators.
    kinds = [(operator.kind, operator.index) for operator in found.operators]
    assert kinds == [("CONV_2D", 0), ("DEPTHWISE_CONV_2D", 1), ("SOFTMAX", 30)]
    seconds = [operator.seconds for operator in found.operators]
    assert seconds == pytest.approx([0.060957, 0.049870, 0.000233])


def test_marked_lines_a_partial_delegate_and_what_it_ran() -> None:
    found = parse_benchmark_model(NEW)
    assert (found.delegate, found.share) == ("XNNPACK", "part")
    # Of three inferences, each is known.
    assert found.inference.each == pytest.approx((0.900416, 0.898007, 0.898333))
    assert [(o.kind, o.index, o.inside) for o in found.operators] == [
        ("TfLiteXNNPackDelegate", 3, False),
        ("HARD_SWISH", 2, False),
        ("Convolution (NHWC, F32) IGEMM", -1, True),
        ("Clamp (NC, F32)", -1, True),
    ]


def test_logcat_and_the_words_of_2019() -> None:
    found = parse_benchmark_model(LOGCAT)
    assert (found.delegate, found.share) == ("NNAPI", "whole")
    assert found.inference.mean == pytest.approx(12167.6e-6)
    old = parse_benchmark_model(OLD)
    assert old.inference.mean == pytest.approx(66767.6e-6)
    assert old.warmup is not None
    assert old.warmup.count == 7
    assert old.inference.each == ()


@pytest.mark.parametrize(
    ("line", "share"),
    [
        ("Replacing 31 out of 31 node(s) with delegate (X) node, yielding 1 partitions.", "whole"),
        ("Replacing 30 out of 31 node(s) with delegate (X) node, yielding 2 partitions.", "part"),
        ("Replacing 0 out of 31 node(s) with delegate (X) node, yielding 0 partitions.", "none"),
        (
            "Though GPU delegate is explicitly applied, the model graph will not be executed by "
            "the delegate.",
            "none",
        ),
        ("INFO: Created TensorFlow Lite XNNPACK delegate for CPU.", None),
    ],
)
def test_how_much_a_delegate_took(line: str, share: str | None) -> None:
    found = parse_benchmark_model(f"{line}\n{timed('count=1 curr=700', '700')}")
    assert found.share == share


def test_what_the_tool_does_not_know_or_have() -> None:
    text = "Unconsumed cmdline flags: --use_x=true --b\n" + timed("count=1 curr=7", "7")
    found = parse_benchmark_model(f"GPU acceleration is unsupported on this platform.\n{text}")
    assert found.refused == ("--use_x=true", "--b")
    assert found.unsupported


def test_a_failure_is_told_in_the_tools_words() -> None:
    words = words_of_failure(FAILED)
    assert "version '9'" in words
    assert words.endswith("Benchmarking failed.")
    with pytest.raises(WorkerError, match=r"printed no timings.*version '9'"):
        parse_benchmark_model(FAILED)
    assert words_of_failure("") == "none"
    assert words_of_failure("one\ntwo \x1b[31m\n") == "two ?[31m"


@pytest.mark.parametrize(
    ("line", "mean", "words"),
    [
        ("count=1 curr=nan", "5", "where a number was expected"),
        ("count=0 curr=5", "5", "cannot be"),
        ("count=1.5 curr=5", "5", "cannot be"),
        ("count=2 first=5 curr=6 min=7 max=9 avg=7 std=1", "7", "cannot be"),
        ("count=2 first=5 curr=6 min=5 max=6 avg=60 std=1", "60", "cannot be"),
        ("count=2 first=5 curr=6 min=5 avg=5 std=1", "5", "without 'max'"),
        ("count=2 first=5", "5", "without 'curr'"),
        ("count=1 curr=5", "500", "contradicts itself"),
        ("count=1 curr=1e300", "1e300", "where a number was expected"),
    ],
)
def test_what_cannot_be_is_refused(line: str, mean: str, words: str) -> None:
    with pytest.raises(WorkerError, match=words):
        parse_benchmark_model(timed(line, mean))


def test_endless_output_is_refused() -> None:
    with pytest.raises(WorkerError, match="wrote more than"):
        parse_benchmark_model("x" * (TEXT_LIMIT + 1))
    rows = "\tA\t1\t1\t1\t1\t1\t1\t1\t[a]:1\n" * 20_001
    header = SLOW[SLOW.index("\t             [node type]") :].partition("\n")[0]
    table = f"Operator-wise Profiling Info for Regular Benchmark Runs:\n===== Run Order\n{header}\n"
    with pytest.raises(WorkerError, match="more than 20000 operators"):
        parse_benchmark_model(timed("count=1 curr=7", "7") + table + rows)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=3))
def test_up_to_three_inferences_are_known_one_by_one(micros: list[int]) -> None:
    mean = f"{sum(micros) / len(micros):g}"
    line = (
        f"count={len(micros)} first={micros[0]} curr={micros[-1]} min={min(micros)} "
        f"max={max(micros)} avg={mean} std=0"
    )
    if min(micros) == max(micros):
        line = f"count={len(micros)} curr={micros[-1]}"
    found = parse_benchmark_model(timed(line, mean)).inference
    # Six digits of the average are what is known of the one between.
    assert found.each == pytest.approx([m / 1e6 for m in micros], rel=2e-5, abs=max(micros) * 2e-11)


@given(st.text(max_size=300), st.integers())
def test_any_text_ends_in_a_named_error_or_a_result(text: str, seed: int) -> None:
    for given_text in (text, mutate_text(NEW, random.Random(seed)), timed("count=1 curr=7", text)):
        with contextlib.suppress(WorkerError):
            parse_benchmark_model(given_text)
