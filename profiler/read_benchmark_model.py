"""Read what TFLite's and LiteRT's `benchmark_model` prints: times, delegates, operators, failures.

The tool writes for people, and its words changed over the years; a text that does not hold what it
should ends in a `WorkerError` with the tool's own words. It counts whole microseconds, and prints
averages with six digits (`2.95034e+06`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ..devices.errors import WorkerError
from .schedule import LONGEST_INFERENCE

MICROSECOND = 1e-6
TEXT_LIMIT = 4 * 1024 * 1024  # letters of an invocation; tables of a thousand operators have 0.5 M
_MOST_RUNS = 10**9
_MOST_OPERATORS = 20_000
_LONGEST_NAME = 300  # letters that are kept of an operator's name
_WORDS = 300  # letters of the tool's own that an error quotes

# Logs put something in front of each line: `INFO: `, or the date, process and tag of Android's.
_PREFIX = re.compile(r"(?:[A-Z]{4,7}: |\d\d-\d\d [\d:.]{8,15} {1,8}\d+ {1,8}\d+ [A-Z] tflite *: )")
_FIELD = re.compile(r"([a-z]\w{0,20})=(\S{1,40})")
_SUMMARY = re.compile(r"(?:Average inference|Inference) timings in us: (.{1,300})")
_TIMING = re.compile(r"([A-Za-z][A-Za-z ]{0,30}(?:\(avg\))?): ([^\s,]{1,40})")
_APPLIED = re.compile(
    r"Explicitly applied (\S{1,40}) delegate, and the model graph will be "
    r"(completely|partially) executed by the delegate"
)
_NOT_APPLIED = re.compile(
    r"Though (\S{1,40}) delegate is explicitly applied, the model graph will not be executed"
)
_REPLACED = re.compile(
    r"Replacing (\d{1,9}) out of (\d{1,9}) node\(s\) with delegate \((.{1,80}?)\) node, "
    r"yielding \d{1,9} partitions"
)
_UNSUPPORTED = re.compile(r"acceleration is unsupported on this platform")
_UNKNOWN_FLAGS = re.compile(r"Unconsumed cmdline flags: (.{1,500})")
_MEMORY = re.compile(r"emory footprint.{0,60}\(MB\): init=(\S{1,40}) overall=(\S{1,40})")
_FAILED = re.compile(
    r"ERROR|[Ff]ailed|[Cc]ould not|Couldn't|[Cc]annot|unsupported|Aborted|CANNOT LINK|"
    r"[Pp]ermission denied|not found|[Ii]nvalid|No space left|not executable"
)
_NUMBERED = re.compile(r":(\d{1,9})$")

Share = Literal["whole", "part", "none"]


@dataclass(frozen=True)
class Statistics:
    """What is printed about some inferences: how many, and seconds of the first, the last, the
    shortest, the longest, and of all on average."""

    count: int
    first: float
    last: float
    least: float
    most: float
    mean: float

    @property
    def each(self) -> tuple[float, ...]:
        """The seconds of each inference; empty where there were too many to know them all.

        Of three, the one in the middle follows from the mean.
        """
        if self.count == 1 or self.least == self.most:
            return (self.last,) * self.count if self.count <= 3 else ()
        if self.count == 2:
            return self.first, self.last
        if self.count != 3:
            return ()
        if self.least < min(self.first, self.last):
            between = self.least
        elif self.most > max(self.first, self.last):
            between = self.most
        else:
            rest = 3 * self.mean - self.first - self.last
            between = min(self.most, max(self.least, rest))
        return self.first, between, self.last


@dataclass(frozen=True)
class ToolOperator:
    """A row of the tool's table of operators: seconds of an inference on average.

    `index` is the operator's in the model, or -1; `inside` says that a delegate ran it and told.
    """

    kind: str
    name: str
    index: int
    seconds: float
    inside: bool


@dataclass(frozen=True)
class BenchmarkOutput:
    """What one invocation printed.

    `delegate` is the one that was applied, as the tool calls it, and `share` how much of the graph
    it runs; None where nothing is said. `memory` is what the process grew by in the end, in bytes.
    `refused` are the options that the tool did not know, `unsupported` says that the platform has
    no such delegate.
    """

    warmup: Statistics | None
    inference: Statistics
    init_seconds: float | None
    delegate: str | None
    share: Share | None
    memory: float | None
    operators: tuple[ToolOperator, ...]
    refused: tuple[str, ...]
    unsupported: bool


def parse_benchmark_model(text: str) -> BenchmarkOutput:
    """Read the output of one invocation that ended well.

    Raises `WorkerError` where it has no timings, or where they cannot be.
    """
    if len(text) > TEXT_LIMIT:
        raise WorkerError(
            f"benchmark_model wrote more than {TEXT_LIMIT} letters; is it the tool of that name?"
        )
    lines = [_bare(line) for line in text.splitlines()]
    report = next((i for i, line in enumerate(lines) if "Profiling Info for" in line), len(lines))
    counts = [_statistics(line) for line in lines[:report] if line.startswith("count=")]
    summary = next((found[1] for line in lines if (found := _SUMMARY.search(line))), None)
    if summary is None or not counts:
        raise WorkerError(
            f"benchmark_model printed no timings; its words: {words_of_failure(text)}"
        )
    timings = {name.strip(): value for name, value in _TIMING.findall(summary)}
    mean = next(
        (timings[name] for name in ("Inference (avg)", "Inference", "no stats") if name in timings),
        None,
    )
    inference = counts[-1]
    # The summary comes last: where it says something else, lines were lost or mixed.
    if mean is None or not math.isclose(_seconds(mean), inference.mean, rel_tol=1e-4, abs_tol=1e-6):
        raise WorkerError(
            f"benchmark_model contradicts itself: an average of {inference.mean / MICROSECOND:g} "
            f"us, and {summary[:_WORDS]!r}; run the same command again"
        )
    memory = next((found for line in lines if (found := _MEMORY.search(line))), None)
    delegate, share = _delegation(lines[:report])
    refused = next((found[1] for line in lines if (found := _UNKNOWN_FLAGS.search(line))), "")
    return BenchmarkOutput(
        counts[-2] if len(counts) > 1 else None,
        inference,
        _seconds(timings["Init"]) if "Init" in timings else None,
        delegate,
        share,
        None if memory is None else _megabytes(memory[2]),
        tuple(_operators(lines[report:])),
        tuple(refused.split()),
        any(_UNSUPPORTED.search(line) for line in lines[:report]),
    )


def words_of_failure(text: str) -> str:
    """What the tool said of its failure: the lines that sound like one, otherwise the last."""
    lines = [line.strip() for line in text[-TEXT_LIMIT:].splitlines() if line.strip()]
    telling = [line for line in lines if _FAILED.search(line[:1000])]
    chosen = dict.fromkeys(telling[:2] + telling[-1:]) if telling else lines[-1:]
    words = "; ".join(line[:_WORDS] for line in chosen)
    return "".join(letter if letter.isprintable() else "?" for letter in words) or "none"


def _bare(line: str) -> str:
    found = _PREFIX.match(line)
    return line[found.end() :] if found else line


def _number(text: str) -> float:
    """A finite number of 0 or more. Raises `WorkerError`."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= LONGEST_INFERENCE / MICROSECOND:  # also not NaN
        raise WorkerError(f"benchmark_model printed {text[:40]!r} where a number was expected")
    return value


def _seconds(text: str) -> float:
    return _number(text) / 1e6


def _megabytes(text: str) -> float | None:
    """Bytes; None where it shrank, or cannot be read: nothing depends on it."""
    try:
        return _number(text) * 1e6
    except WorkerError:
        return None


def _statistics(line: str) -> Statistics:
    """A line such as `count=50 first=58154 curr=53809 min=53077 max=60727 avg=55043.2 std=1562`;
    where all are equal, or there is one, `count=1 curr=3512391`."""
    fields = dict(_FIELD.findall(line[:1000]))
    try:
        count = _number(fields["count"])
        last = _seconds(fields["curr"])
        if "avg" in fields:
            first, least, most, mean = (
                _seconds(fields[name]) for name in ("first", "min", "max", "avg")
            )
        else:
            first = least = most = mean = last
    except KeyError as error:
        raise WorkerError(
            f"benchmark_model printed {line[:_WORDS]!r}, without {error}; its version is not known"
        ) from None
    # Averages are rounded to six digits.
    possible = least <= min(first, last) and max(first, last) <= most
    possible = possible and least * (1 - 1e-5) <= mean <= most * (1 + 1e-5)
    if not (possible and 1 <= count <= _MOST_RUNS and count == int(count)):
        raise WorkerError(f"benchmark_model printed {line[:_WORDS]!r}, which cannot be")
    return Statistics(int(count), first, last, least, most, mean)


def _delegation(lines: Sequence[str]) -> tuple[str | None, Share | None]:
    """Which delegate was applied, and to how much; what is said last counts."""
    name: str | None = None
    share: Share | None = None
    replaced = False
    for line in lines:
        if found := _APPLIED.search(line):
            name, share = found[1], "whole" if found[2] == "completely" else "part"
            replaced = True  # said of the whole graph; counts of nodes are not needed any more
        elif found := _NOT_APPLIED.search(line):
            name, share, replaced = found[1], "none", True
        elif (found := _REPLACED.search(line)) and not replaced:
            taken, nodes = int(found[1]), int(found[2])
            name = found[3]
            share = "whole" if taken >= nodes else "part" if taken else "none"
    return name, share


def _operators(lines: Sequence[str]) -> Iterator[ToolOperator]:
    """The rows of the tables in the order of running, of the runs that were timed."""
    of_runs = inside = in_order = False
    columns: dict[str, int] = {}
    count = 0
    for line in lines:
        if "Profiling Info for" in line:
            of_runs, inside, columns = "Initialization" not in line, False, {}
        elif line.startswith("Delegate internal"):
            inside, columns = True, {}
        elif line.startswith("====="):
            in_order, columns = "Run Order" in line, {}
        elif not line.strip():
            columns = {}
        elif of_runs and in_order and "[node type]" in line and "[avg ms]" in line:
            columns = {name: place for place, name in enumerate(_cells(line))}
        elif columns:
            count += 1
            if count > _MOST_OPERATORS:
                raise WorkerError(f"benchmark_model lists more than {_MOST_OPERATORS} operators")
            yield _row(_cells(line), columns, line, inside)


def _cells(line: str) -> list[str]:
    parts = line.split("\t") if "\t" in line else re.split(r" {2,}", line)
    return [part.strip() for part in parts if part.strip()]


def _row(cells: Sequence[str], columns: dict[str, int], line: str, inside: bool) -> ToolOperator:
    try:
        kind, name = cells[columns["[node type]"]], cells[columns["[Name]"]]
        seconds = _number(cells[columns["[avg ms]"]]) * 1e-3
    except (KeyError, IndexError):
        raise WorkerError(
            f"benchmark_model printed {line[:_WORDS]!r} in its table of operators, which cannot be "
            "read; go without --operators"
        ) from None
    numbered = None if inside else _NUMBERED.search(name)
    index = int(numbered[1]) if numbered else -1
    return ToolOperator(kind[:_LONGEST_NAME], name[:_LONGEST_NAME], index, seconds, inside)
