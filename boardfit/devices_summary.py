"""What the commands about boards print: rows for tables and JSON, sentences for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from boardfit.devices.base import Description
from boardfit.devices.discover import Sighting
from boardfit.devices.findings import Finding

_WIDTH = 100  # letters of a line
_STATES = ("problem", "warning", "note", "ok")


def sighting_rows(sightings: Sequence[Sighting]) -> list[dict[str, Any]]:
    """A row for each board that there is or might be."""
    return [
        {
            "name": sighting.name,
            "transport": sighting.transport,
            "where": sighting.where,
            "state": sighting.state,
            "tags": " ".join(sighting.tags),
        }
        for sighting in sightings
    ]


def sighting_content(sightings: Sequence[Sighting]) -> list[dict[str, Any]]:
    """The same for programs, with what was seen in words."""
    return [
        {**row, "tags": list(sighting.tags), "words": sighting.words}
        for row, sighting in zip(sighting_rows(sightings), sightings, strict=True)
    ]


def sighting_words(sightings: Sequence[Sighting]) -> list[str]:
    """A sentence about each that is not simply ready."""
    return [f"{s.name or s.where}: {s.words}" for s in sightings if s.words]


def board_line(name: str, description: Description) -> str:
    """A board in one line: its name, model, chip and system, as far as they are known."""
    facts = [description.model, description.soc, description.system, description.machine]
    known = ", ".join(fact for fact in facts if fact)
    return f"{name}: {known}" if known else name


def finding_rows(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """A row for each finding."""
    return [
        {
            "state": finding.state,
            "what": finding.what,
            "words": finding.words,
            "fix": finding.fix,
        }
        for finding in findings
    ]


def finding_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Findings for people, each with its next step below it, and what follows from all."""
    column = max((len(finding.what) for finding in findings), default=0)
    for finding in findings:
        front = f"  {finding.state:8} {finding.what:{column}}  "
        yield from _wrapped(finding.words, front)
        if finding.fix:
            words, *to_copy = finding.fix.split("\n")
            yield from _wrapped(words, f"{' ' * (len(front) - 3)}-> ")
            yield from (" " * len(front) + line for line in to_copy)
    yield verdict(findings)


def verdict(findings: Sequence[Finding]) -> str:
    """Whether the board is fit to be measured, in one sentence."""
    counts = {state: sum(f.state == state for f in findings) for state in _STATES}
    if counts["problem"]:
        words = "The board cannot be measured as it is"
    elif counts["warning"]:
        words = "The board can be measured, and its figures may suffer"
    else:
        return "The board is fit to be measured."
    named = [_count(counts[state], state) for state in ("problem", "warning") if counts[state]]
    return f"{words}: {', '.join(named)}."


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _wrapped(text: str, front: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=front,
        subsequent_indent=" " * len(front),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [front.rstrip()]
