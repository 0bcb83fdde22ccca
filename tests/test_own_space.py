"""A search space from a file of the user's own: the tutorial's, and what goes wrong with others."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from boardfit import api
from boardfit.devices.errors import InputError, SpaceError
from boardfit.options import default_table
from boardfit.profiler.connect import connect
from boardfit.profiler.schedule import Schedule
from boardfit.profiler.table import LookupTable
from boardfit.search.check_space import check_space
from boardfit.search.mobilenetv3 import SMALL, mobilenetv3
from boardfit.search.recipe import Recipe

EXAMPLE = Path(__file__).parent.parent / "examples/own_space.py"
OPTIONS = {"input_size": 16, "width": 16}
TEXT = EXAMPLE.read_text()


def written(folder: Path, text: str) -> str:
    path = folder / "mine.py"
    path.write_text(text)
    return str(path)


def changed(folder: Path, old: str, new: str) -> str:
    assert TEXT.count(old) == 1
    return written(folder, TEXT.replace(old, new))


def test_the_example_and_the_shipped_spaces_hold_what_a_search_relies_on() -> None:
    found = check_space(api.open_space(str(EXAMPLE), OPTIONS))
    assert (found.networks, found.files) == (48, 3)
    assert found.operators > 20
    assert "compute the same masked and sliced" in str(found)
    space = mobilenetv3("s", SMALL, classes=4, input_size=16, width_factor=0.25, kernels=(3, 5))
    assert check_space(space, files=1).networks > 48


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("return y + x * (1 - kept)", "return y + x", "look at this stage and at those"),
        ("return y + x * (1 - kept)", "return y", r"stage a1 \(.*masked and sliced"),
        ("(x, mask=width_mask(draw[:, 1], stage.filters, x))", "(x)", r"stage a\d \("),
        ("slice_channels(x, filters, channels)", "slice_channels(x, 0, channels - filters)", "a1"),
        ("(0, self.filters) if choice[0] == 0 else choice", "(choice[0], 8)", "canonical form"),
    ],
    ids=["not masked", "no bypass", "inner not masked", "other channels", "canonical"],
)
def test_a_mistake_in_a_stage_is_found(tmp_path: Path, old: str, new: str, words: str) -> None:
    space = api.open_space(changed(tmp_path, old, new), OPTIONS)
    with pytest.raises(SpaceError, match=words):
        check_space(space, files=0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def space(:\n", "fails in line 1: SyntaxError"),
        ("\n\n1 / 0\n", "fails in line 3: ZeroDivisionError"),
        ("def space():\n    return unknown\n", "fails in line 2: NameError"),
        ("x = 1\n", r"has no function space\(\*\*options\)"),
        ("def space():\n    return 3\n", "gives int, not a boardfit.search.space.SearchSpace"),
    ],
)
def test_a_file_that_makes_no_space_says_where_and_why(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(SpaceError, match=words):
        api.open_space(written(tmp_path, text))


def test_a_missing_file_and_an_unknown_field_are_named(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="cannot read the space"):
        api.open_space(str(tmp_path / "none.py"))
    with pytest.raises(SpaceError, match="no field 'depth'; space takes classes, input_size"):
        api.open_space(str(EXAMPLE), {"depth": 3})


def test_a_table_of_an_own_space_lies_where_its_file_is_called() -> None:
    assert default_table("pi5", "some/where/mine.py") == Path("tables/pi5-mine.boardfit")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> LookupTable:
    quick = Schedule(runs=2, minimum_rounds=2, maximum_rounds=2)
    return api.build_table(
        str(EXAMPLE), connect("fake"), tmp_path_factory.mktemp("own") / "table.boardfit",
        options=OPTIONS, validation=10, schedule=quick,
    )  # fmt: skip


def test_nothing_is_run_because_a_table_says_so(table: LookupTable) -> None:
    name = table.provenance["space"]
    assert name.startswith("own_space.py#")
    with pytest.raises(SpaceError, match=r"runs only where you name it: give --space PATH/own_sp"):
        api.choose_space(None, None, table.path)
    with pytest.raises(SpaceError, match="runs only where you name it"):
        api.find_network(table, connect("fake"), out="unused")
    assert api.choose_space(str(EXAMPLE), OPTIONS, table.path) == (str(EXAMPLE), OPTIONS)


def test_a_table_is_not_taken_for_that_of_another_text(table: LookupTable, tmp_path: Path) -> None:
    other = written(tmp_path, TEXT + "# changed\n")
    with pytest.raises(InputError, match=r"was built for own_space.py#\w+, not for mine.py#\w+"):
        api.find_network(table, connect("fake"), space=other, out=tmp_path / "run")
    # A copy of another place is the same space, and its table is used as it is.
    copy = shutil.copy(EXAMPLE, tmp_path / "own_space.py")
    same = api.open_or_build_table(str(copy), connect("fake"), table.path, options=OPTIONS)
    assert len(same.operators) == len(table.operators)


def test_an_own_space_is_searched_from_table_to_file(table: LookupTable, tmp_path: Path) -> None:
    tiny = Recipe(steps=6, batch_size=16)
    found = api.find_network(
        table, connect("fake"), data="shapes:120", latency="60%", out=tmp_path / "run",
        space=str(EXAMPLE), evaluations=10, holdout_images=20, supernet=tiny, final=tiny,
    )  # fmt: skip
    assert found.meets_target
    assert found.space == table.provenance["space"]
    assert found.found.difference < 1e-4
    assert (tmp_path / "run" / found.found.file).exists()
