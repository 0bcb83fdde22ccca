"""What is printed: rows for people and for programs, numbers, sentences as they are."""

from __future__ import annotations

import json
import math

import pytest

from boardfit.console import number_text, say, show, tell

ROWS = [{"name": "[b]x[/b]", "ms": 16934.2, "spearman": math.nan, "fits": True, "nothing": None}]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.1235"),
        (9999.4, "9999"),
        (16934.2, "16934"),
        (-16934.2, "-16934"),
        (1e15, "1e+15"),
        (1e-7, "1e-07"),
        (0.0, "0"),
    ],
)
def test_numbers_have_four_digits_or_all_before_the_point(value: float, text: str) -> None:
    assert number_text(value) == text


def test_programs_read_null_where_a_number_is_not_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    deep = [{**ROWS[0], "quartiles": [1.0, math.nan], "parts": {"high": math.inf}}]
    show(deep, as_json=True)
    (row,) = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert row == {**ROWS[0], "spearman": None, "quartiles": [1.0, None], "parts": {"high": None}}


def test_people_read_names_as_they_are_and_nothing_for_what_is_not_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tell(ROWS, ["A path may be called [/b]."], as_json=False)
    printed = capsys.readouterr().out
    assert "[b]x[/b]" in printed
    assert "16934" in printed
    assert "nan" not in printed.lower().replace("name", "")
    assert printed.endswith("A path may be called [/b].\n")


def test_sentences_are_for_people_alone(capsys: pytest.CaptureFixture[str]) -> None:
    tell(ROWS, ["A sentence."], as_json=True)
    assert "A sentence." not in capsys.readouterr().out
    say(["One.", "Two."], indent="  ")
    assert capsys.readouterr().out == "  One.\n  Two.\n"
