"""Messages stay short enough to be read, whatever a file or a board says."""

from __future__ import annotations

import pytest

from boardfit.devices.errors import LONGEST, BoardfitError, DeviceLost


@pytest.mark.parametrize("kind", [BoardfitError, DeviceLost])
def test_a_message_keeps_its_cause_and_its_next_step(kind: type[BoardfitError]) -> None:
    short = "x" * LONGEST
    assert str(kind(short)) == short
    words = str(kind(f"the cause: {'x' * 100_000}; the next step"))
    assert len(words) == LONGEST
    assert words.startswith("the cause: x")
    assert words.endswith("x; the next step")
