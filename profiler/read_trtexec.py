"""Read what TensorRT's `trtexec` prints and writes: summaries of three generations, and its JSON.

The files of `--exportTimes` and `--exportProfile` kept their form since TensorRT 6; the words for
people did not. Whatever cannot be read ends in a `WorkerError`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..devices.errors import WorkerError
from .schedule import LONGEST_INFERENCE, SHORTEST_INFERENCE

MILLISECOND = 1e-3
TEXT_LIMIT = 8 * 1024 * 1024  # letters of what is read
_MOST_LAYERS = 100_000
_LONGEST_NAME = 300  # letters that are kept of a layer's name
_WORDS = 300  # letters of the tool's own that an error quotes

_NUMBER = r"(\d{1,15}(?:\.\d{1,15})?(?:e[+-]?\d{1,3})?)"
_VERSION = re.compile(r"TensorRT\.trtexec \[TensorRT v(\d{4,8})\]")
_OLD_VERSION = re.compile(r"TensorRT version: (\d{1,3}(?:\.\d{1,3}){1,3})")
# TensorRT 8 and later: all in one line.
_LINE = re.compile(r"GPU Compute Time: (min = .{1,300})")
_IN_LINE = re.compile(rf"(min|max|mean|median) = {_NUMBER} ms")
# TensorRT 6 and 7: a heading, and a line for each.
_HEADING = re.compile(r"GPU Compute\s*$")
_BELOW = re.compile(rf"(min|max|mean|median): {_NUMBER} ms")
# TensorRT 5 and before: averages of groups of runs.
_GROUP = re.compile(rf"Average over (\d{{1,6}}) runs is {_NUMBER} ms")
_LOG = re.compile(r"(?:\[\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d\] )?\[[A-Z]\] ?")
_FAILED = re.compile(r"\[E\]|FAILED|[Ee]rror|[Ff]ailed|not found|[Cc]annot|Unknown|denied|No space")


@dataclass(frozen=True)
class TrtexecSummary:
    """Seconds that the GPU computed an inference; None where a version does not tell."""

    mean: float
    least: float | None = None
    most: float | None = None
    median: float | None = None


@dataclass(frozen=True)
class LayerTime:
    """A layer of an engine, which may be many operators fused: seconds on average."""

    name: str
    seconds: float


def parse_summary(text: str) -> TrtexecSummary:
    """The summary of a run, of whichever generation. Raises `WorkerError` where there is none."""
    lines = [_LOG.sub("", line, count=1).strip() for line in _bounded(text).splitlines()]
    for line in reversed(lines):  # the last one is of the run that was asked for
        if found := _LINE.search(line):
            return _summary(dict(_IN_LINE.findall(found[1])), line)
    for place in range(len(lines) - 1, -1, -1):
        if _HEADING.fullmatch(lines[place]):
            values: dict[str, str] = {}
            for line in lines[place + 1 : place + 7]:
                if found := _BELOW.match(line):
                    values.setdefault(found[1], found[2])
            return _summary(values, lines[place])
    groups = [(int(found[1]), found[2]) for line in lines if (found := _GROUP.search(line))]
    if groups and all(runs for runs, _ in groups):
        whole = sum(runs for runs, _ in groups)
        return TrtexecSummary(sum(runs * _milliseconds(text) for runs, text in groups) / whole)
    raise WorkerError(f"trtexec printed no times; its words: {words_of_failure(text)}")


def parse_version(text: str) -> str | None:
    """TensorRT's version as trtexec writes it (`8502`, `8.5.2`); None where it does not."""
    head = text[:20_000]
    found = _VERSION.search(head) or _OLD_VERSION.search(head)
    return found[1] if found else None


def parse_times(text: str) -> tuple[float, ...]:
    """Seconds that the GPU computed each inference, from the file of `--exportTimes`."""
    rows = _rows(text, "--exportTimes")
    found = tuple(_time(row, "computeMs", "--exportTimes") for row in rows)
    if not found or min(found) < SHORTEST_INFERENCE:
        raise WorkerError(
            "trtexec's times hold an inference that took no time, or none at all; run the same "
            "command again"
        )
    return found


def parse_profile(text: str) -> tuple[LayerTime, ...]:
    """The layers of an engine in their order, from the file of `--exportProfile`."""
    found = []
    for row in _rows(text, "--exportProfile"):
        if "name" not in row:  # the first says how often the engine ran
            continue
        if not isinstance(row["name"], str):
            raise WorkerError(f"trtexec named a layer {row['name']!r:.40}")
        found.append(
            LayerTime(row["name"][:_LONGEST_NAME], _time(row, "averageMs", "--exportProfile"))
        )
    if not found:
        raise WorkerError("trtexec's profile lists no layers; go without --operators there")
    return tuple(found)


def words_of_failure(text: str) -> str:
    """What the tool said of its failure: its lines with errors, otherwise the last."""
    lines = [line.strip() for line in text[-TEXT_LIMIT:].splitlines() if line.strip()]
    telling = [line for line in lines if _FAILED.search(line[:1000])]
    chosen = dict.fromkeys(telling[:3]) if telling else lines[-1:]
    words = "; ".join(line[:_WORDS] for line in chosen)
    return "".join(letter if letter.isprintable() else "?" for letter in words) or "none"


def _bounded(text: str) -> str:
    if len(text) > TEXT_LIMIT:
        raise WorkerError(f"trtexec wrote more than {TEXT_LIMIT} letters; is it TensorRT's tool?")
    return text


def _summary(values: Mapping[str, str], line: str) -> TrtexecSummary:
    if "mean" not in values:
        raise WorkerError(f"trtexec printed {line[:_WORDS]!r} without a mean; use --exportTimes")
    seconds = {name: _milliseconds(text) for name, text in values.items()}
    found = TrtexecSummary(
        seconds["mean"], seconds.get("min"), seconds.get("max"), seconds.get("median")
    )
    least = 0.0 if found.least is None else found.least
    most = math.inf if found.most is None else found.most
    if not least <= found.mean * (1 + 1e-4) or not found.mean <= most * (1 + 1e-4):
        raise WorkerError(f"trtexec printed {line[:_WORDS]!r}, whose mean is not between them")
    return found


def _milliseconds(text: str) -> float:
    value = float(text) * MILLISECOND
    if not 0 <= value <= LONGEST_INFERENCE:
        raise WorkerError(f"trtexec printed {text[:40]!r} ms, which no inference takes")
    return value


def _rows(text: str, option: str) -> list[dict[str, Any]]:
    try:
        rows = json.loads(_bounded(text))
    except (ValueError, RecursionError) as error:
        raise WorkerError(
            f"what trtexec wrote for {option} cannot be read ({str(error)[:100]}); the board's "
            "disk may be full"
        ) from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise WorkerError(f"what trtexec wrote for {option} is not a list of objects")
    if len(rows) > _MOST_LAYERS:
        raise WorkerError(f"what trtexec wrote for {option} has {len(rows)} rows, too many")
    return rows


def _time(row: Mapping[str, Any], name: str, option: str) -> float:
    value = row.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise WorkerError(f"what trtexec wrote for {option} has no {name} in {row!r:.100}")
    if not 0 <= value <= LONGEST_INFERENCE / MILLISECOND:  # also not NaN
        raise WorkerError(f"trtexec wrote {name} = {value!r:.40}, which no inference takes")
    return float(value) * MILLISECOND
