"""From an entry of the inventory to a board: its cores, its chip, and what is set for a job."""

from __future__ import annotations

import logging
import os
from pathlib import Path, PurePosixPath

import pytest

from boardfit.devices.board_entry import BoardEntry, Settings
from boardfit.devices.errors import BoardfitError, InputError
from boardfit.devices.lease import in_use
from boardfit.devices.lease_place import FOLDER
from boardfit.devices.occupy import FOLDER_VARIABLE, occupied
from boardfit.devices.settings_record import NOTHING, Wanted
from boardfit.profiler.campaign import conditions_of
from boardfit.profiler.connect import reach
from boardfit.profiler.open_session import open_session


def test_named_cores_are_those_of_the_board() -> None:
    with reach(BoardEntry("b", "local", cores=(0,))) as board:
        assert board.core == 0
    with pytest.raises(InputError, match="cores 4000 cannot be used"):
        reach(BoardEntry("b", "local", cores=(4000,)))


def test_another_chip_than_expected_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="boardfit"):
        reach(BoardEntry("x", "fake", soc="fake")).transport.close()
        assert not caplog.messages
        reach(BoardEntry("x", "fake", soc="bcm2712")).transport.close()
    assert caplog.messages == [
        "x: its chip is fake, and bcm2712 in boards.toml; is it the board that is meant?"
    ]


def test_what_a_board_is_measured_under_is_a_condition_and_set_for_each_job(tmp_path: Path) -> None:
    entry = BoardEntry(
        "b",
        "local",
        workspace=PurePosixPath(tmp_path),
        settings=Settings(governor="no_such_governor"),
    )
    with reach(entry) as board:
        assert board.wanted == Wanted(governor="no_such_governor")
        assert board.description.governor == "no_such_governor"
        with open_session(board) as session:
            conditions = conditions_of(board, session, "float32")
        assert conditions["settings"] == {"governor": "no_such_governor"}
        # No board has it: the job does not begin, and the board is free again.
        with pytest.raises(BoardfitError, match="governor"), occupied(board, "a job"):
            pytest.fail("measured under another governor than was asked for")
        leases = PurePosixPath(os.environ[FOLDER_VARIABLE]) / FOLDER
        assert in_use(board.transport, folder=leases) == ""


def test_boards_that_nothing_is_set_on_have_no_settings_among_their_conditions() -> None:
    assert NOTHING.conditions == {}
    assert not Wanted(cool_below=50.0).changes
    with reach(BoardEntry("x", "fake")) as board, open_session(board) as session:
        assert "settings" not in conditions_of(board, session, "float32")
