"""What is said of every kind of item: its board, its journal, and whether the board kept pace."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from ..profiler.measurement import ADVICE
from .blocks import Finding, Grid, grid
from .frames import conditions_frame, percent_text, plain_text, reference_drift, time_text
from .sources import Journal

DRIFT = 0.05  # of the reference model between sessions


def board_text(conditions: Mapping[str, object]) -> str:
    """A board in a few words: its name, runtime and threads, as far as they are known."""
    board = conditions.get("board") or conditions.get("machine") or "an unnamed board"
    words = [plain_text(board)]
    if runtime := conditions.get("runtime"):
        words.append(f"{plain_text(runtime)} {plain_text(conditions.get('runtime_version', ''))}")
    if threads := conditions.get("threads"):
        words.append(f"{plain_text(threads)} thread{'s' if threads != 1 else ''}")
    return ", ".join(word.strip() for word in words)


def conditions_grid(conditions: Mapping[str, object]) -> Grid:
    """The table of a board's conditions."""
    return grid("The board and its conditions", conditions_frame(conditions))


def journal_frame(journal: Journal) -> pd.DataFrame:
    """How a file of samples came about, in words: property and value."""
    schedule = journal.schedule
    begun = str(journal.sessions[0][2]) if journal.sessions else ""
    rows = [
        ("samples", f"{journal.samples:,}"),
        ("sessions", f"{len(journal.sessions):,}"),
        ("begun (UTC)", begun[:16].replace("T", " ") or "not known"),
        ("time measuring", time_text(journal.wall_seconds)),
        ("… in timed inferences", time_text(journal.inference_seconds)),
        ("runs (fresh processes)", str(len({run for _, run, _ in journal.sessions if run >= 0}))),
        ("rounds a run", f"{schedule.minimum_rounds} to {schedule.maximum_rounds}"),
        ("samples a visit", f"{schedule.samples}, after {schedule.warmup} of warm-up"),
        ("a sample lasts at least", time_text(schedule.sample_seconds)),
        ("an entry is settled within", percent_text(schedule.precision)),
        ("seed of the order", str(schedule.seed)),
    ]
    if (record := journal.record) is not None:
        rows.append(
            ("the board was slowed", f"in {percent_text(record.slowed_share)} of the visits")
        )
        rows += [(f"the board's {plain_text(name)}", value) for name, value in record.facts]
    return pd.DataFrame(rows, columns=["", "value"])


def board_findings(journal: Journal) -> tuple[Finding, ...]:
    """Findings where the board said that it was slowed, or changed its speed between sessions."""
    findings = []
    if journal.record is not None and (words := journal.record.words):
        findings.append(
            Finding(
                f"{words[:1].upper()}{words[1:]}.",
                "Give it enough power and cool it, and measure again; `boardfit devices doctor` "
                "says what it lacks.",
            )
        )
    drift = reference_drift(journal)
    if drift > DRIFT:
        findings.append(_drift_finding(drift))
    return tuple(findings)


def _drift_finding(drift: float) -> Finding:
    return Finding(
        f"The board changed its speed: the reference model's medians differ by "
        f"{percent_text(drift)} between sessions.",
        "End other work on it, hold the clock (governor performance) where the board allows, "
        "and measure again where a few per cent matter.",
    )


def advice(verdict: str) -> str:
    """The next step that follows from a verdict on samples, as a sentence."""
    words = {str(name): text for name, text in ADVICE.items()}.get(verdict, "measure again")
    return f"{words[:1].upper()}{words[1:]}."
