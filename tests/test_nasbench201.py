"""Cells of NAS-Bench-201: which operators have an effect, the networks, and tables of boards."""

import gzip
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from boardfit.devices.errors import InputError, SpaceError
from boardfit.search.additive import fit_additive
from boardfit.search.coordinate_descent import coordinate_descent
from boardfit.search.evaluation import Evaluator
from boardfit.search.evolution import evolution
from boardfit.search.guide import fit
from boardfit.search.measured_cells import MeasuredCells, read_measured_cells
from boardfit.search.metrics import Rows, Values, macs
from boardfit.search.nasbench201 import (
    COUNT,
    EDGES,
    OPERATORS,
    Removal,
    all_cells,
    architecture_text,
    canonical_numbers,
    nasbench201,
    numbers,
    read_architecture,
    unfed,
    unread,
)
from boardfit.search.network_module import NetworkModule
from boardfit.search.random_search import random_search
from boardfit.search.space import Architecture
from boardfit.search.supernet import SuperNetwork
from boardfit.search.trial import best_trial

SPACE = nasbench201(input_size=8)
REMOVALS: tuple[Removal, ...] = ("unread", "nothing")
CELLS = st.tuples(*[st.integers(0, len(OPERATORS) - 1)] * len(EDGES))


def effect(cell: Architecture) -> Values:
    """What a cell computes where edge number e multiplies by a random number of its own, or by 0:
    two cells are alike where these are."""
    rng = np.random.default_rng(1)
    factors, nodes = rng.uniform(1, 2, (len(EDGES), len(OPERATORS))), np.zeros(4)
    nodes[0] = 1.0
    for e, (source, node) in enumerate(EDGES):
        nodes[node] += factors[e, cell[e]] * nodes[source] * (cell[e] > 0)
    return nodes[3:]


@given(CELLS)
def test_operators_without_effect_are_removed_and_no_others(cell: Architecture) -> None:
    alone = unread(unfed(cell))
    assert unfed(unread(cell)) == alone
    assert effect(alone) == pytest.approx(effect(cell))
    for e in range(len(EDGES)):
        if alone[e]:  # whatever is left changes what the cell computes
            assert effect((*alone[:e], 0, *alone[e + 1 :])) != pytest.approx(effect(cell))
    assert all(kept in (0, op) for kept, op in zip(alone, cell, strict=True))


@pytest.mark.parametrize(
    ("cell", "without_unread", "without_unfed"),
    [
        # An operator towards a node that nobody reads; one from a node that gets nothing.
        ((4, 0, 0, 1, 0, 0), (0, 0, 0, 1, 0, 0), (4, 0, 0, 1, 0, 0)),
        ((0, 0, 0, 1, 4, 0), (0, 0, 0, 1, 4, 0), (0, 0, 0, 1, 0, 0)),
        # In a row: the second is not read, so that the first is not read either.
        ((4, 0, 4, 1, 0, 0), (0, 0, 0, 1, 0, 0), (4, 0, 4, 1, 0, 0)),
        ((0, 0, 4, 1, 0, 4), (0, 0, 4, 1, 0, 4), (0, 0, 0, 1, 0, 0)),
        ((1, 2, 3, 4, 1, 2), (1, 2, 3, 4, 1, 2), (1, 2, 3, 4, 1, 2)),
    ],
)
def test_unread_and_unfed(
    cell: Architecture, without_unread: Architecture, without_unfed: Architecture
) -> None:
    assert unread(cell) == without_unread
    assert unfed(cell) == without_unfed


def test_removal_decides_which_cells_count_as_one() -> None:
    counts = {
        removal: len(np.unique(canonical_numbers(nasbench201(removal=removal).canonical)))
        for removal in ("nothing", "unread", "all")
    }
    assert counts == {"nothing": COUNT, "unread": 12_205, "all": 9_445}


@given(CELLS)
def test_numbers_and_texts_say_which_cell_it_is(cell: Architecture) -> None:
    assert tuple(all_cells()[numbers(np.array([cell]))[0]]) == cell
    assert read_architecture(architecture_text(cell)) == cell


@pytest.mark.parametrize(
    "text",
    ["", "|none~0|", "|none~0|+|none~0|none~1|+|none~0|none~1|conv~2|", "|none~1|+|none~0|none~1|"],
)
def test_other_texts_are_no_cells(text: str) -> None:
    with pytest.raises(ValueError, match="not a cell"):
        read_architecture(text)


def test_the_full_network_is_the_published_one() -> None:
    """Counted by hand: 3x3 convolutions in all edges, at 32x32 and 10 classes."""
    network = nasbench201().network(nasbench201().full)
    assert Counter(layer.op for layer in network.layers)["conv_2d"] == 1 + 15 * 6 + 2 * 3
    cells = 5 * 6 * 9 * (16 * 16 * 32**2 + 32 * 32 * 16**2 + 64 * 64 * 8**2)
    reductions = 9 * (16 * 32 + 32 * 32) * 16**2 + 16 * 32 * 16**2
    reductions += 9 * (32 * 64 + 64 * 64) * 8**2 + 32 * 64 * 8**2
    assert network.macs == 27 * 16 * 32**2 + cells + reductions + 640
    assert network.output_shape == (10,)


@given(cell=CELLS, e=st.integers(0, len(EDGES) - 1), operator=st.integers(0, len(OPERATORS) - 1))
def test_the_same_layers_have_the_same_canonical_cell(
    cell: Architecture, e: int, operator: int
) -> None:
    other = (*cell[:e], operator, *cell[e + 1 :])
    same = SPACE.canonical(cell) == SPACE.canonical(other)
    assert SPACE.network(SPACE.canonical(cell)) == SPACE.network(cell)
    # The canonical cell decides; two that differ may still be alike (a skip beside a skip).
    if same:
        assert SPACE.network(cell) == SPACE.network(other)


def test_a_cell_computes_what_its_operators_say() -> None:
    """Output = pool(input) + conv(relu(input + pool(input))) in each cell, layer by layer."""
    cell = (2, 1, 1, 2, 0, 4)  # node 1 = pool(0); node 2 = 0 + 1; node 3 = pool(0) + conv(2)
    module = NetworkModule(SPACE.network(cell), torch.Generator().manual_seed(0)).eval()
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))

    def pool(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)

    y = module.layer("stem")(x)
    for number in range(3):
        if number:
            first = module.layer(f"reduction{number}.first")(torch.relu(y))
            short = torch.nn.functional.avg_pool2d(y, 2)
            y = module.layer(f"reduction{number}.shortcut")(short)
            y = y + module.layer(f"reduction{number}.second")(torch.relu(first))
        for k in range(5):
            y = pool(y) + module.layer(f"cell{number}{k}.23")(torch.relu(y + pool(y)))
    expected = module.layer("classifier")(torch.relu(y).mean((2, 3)))
    torch.testing.assert_close(module(x), expected)


def test_where_nothing_passes_the_classifier_is_left() -> None:
    network = SPACE.network((4, 4, 4, 0, 0, 0))
    assert [layer.op for layer in network.layers] == ["mean", "fully_connected"]


def test_spaces_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SpaceError, match="removal is 'some'; allowed: 'all', 'unread', 'nothing'"):
        nasbench201(removal="some")  # type: ignore[arg-type]
    with pytest.raises(SpaceError, match="10 classes of 30x30 images are impossible"):
        nasbench201(input_size=30)
    with pytest.raises(SpaceError, match="0 classes"):
        nasbench201(classes=0)


def test_a_super_network_of_cells_says_that_it_has_no_masked_form() -> None:
    network = SuperNetwork(SPACE, torch.Generator())
    with pytest.raises(SpaceError, match="CellNetwork has no masked form"):
        network.forward_masked(torch.zeros(2, 3, 8, 8), np.array([SPACE.full] * 2))


# Measured cells


def rows() -> dict[str, list[str]]:
    """A made-up table: more operators, better and slower."""
    cost = all_cells() @ np.array([1, 2, 3, 4, 5, 6])
    return {
        architecture_text(cell): [f"{50 + c / 4}", f"{49 + c / 4}", f"{1 + c / 10}"]
        for cell, c in zip(all_cells().tolist(), cost.tolist(), strict=True)
    }


def write(path: Path, table: dict[str, list[str]]) -> Path:
    text = "architecture,made_val,made_test,board_ms\n"
    text += "".join(f"{cell},{','.join(values)}\n" for cell, values in table.items())
    content = text.encode()
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    return path


@pytest.fixture(scope="module")
def table() -> dict[str, list[str]]:
    return rows()


@pytest.fixture(scope="module")
def cells(table: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> MeasuredCells:
    path = write(tmp_path_factory.mktemp("cells") / "cells.csv.gz", table)
    return read_measured_cells(path, nasbench201(removal="unread"))


def test_a_cell_has_the_numbers_of_the_one_that_is_deployed(
    cells: MeasuredCells, table: dict[str, list[str]]
) -> None:
    metric, score = cells.latency("board"), cells.score("made_val")
    for cell in [(4, 4, 4, 4, 4, 4), (4, 0, 0, 1, 0, 0), (0, 0, 0, 0, 0, 3)]:
        validation, _, milliseconds = map(float, table[architecture_text(unread(cell))])
        assert metric([cell])[0] == pytest.approx(milliseconds / 1000)
        assert score(cell) == pytest.approx((validation / 100, 1 - validation / 100))
    assert metric([]).shape == (0,)
    assert cells.accuracy["made_test"][0] == pytest.approx(0.49)


def test_unknown_boards_and_accuracies_are_refused(cells: MeasuredCells) -> None:
    with pytest.raises(InputError, match="no board is called 'pixel'; known: board"):
        cells.latency("pixel")
    with pytest.raises(InputError, match="no accuracy is called 'board'; known: made_val, made_t"):
        cells.score("board")


@pytest.mark.parametrize("optimizer", [coordinate_descent, evolution, random_search])
def test_optimizers_take_operators(cells: MeasuredCells, optimizer: object) -> None:
    metric = cells.latency("board")
    everything = all_cells()
    target = float(np.median(metric(everything)))
    evaluate = Evaluator(cells.space, cells.score("made_val"), metric)
    for _ in optimizer(cells.space, evaluate, metric, target, np.random.default_rng(0)):  # type: ignore[operator]
        pass
    found = best_trial(evaluate.trials, target)
    within = metric(everything) <= target
    best = max(cells.accuracy["made_val"][cells.canonical(everything[within])])
    assert found.metric <= target
    assert found.accuracy > best - 0.01
    assert evaluate.evaluations <= 120


def test_the_guide_gives_each_operator_a_share_of_its_own() -> None:
    """Numbers of operators are names: an objective that is not monotonic in them is learnt."""
    value = np.array([0.0, 3.0, -2.0, 5.0, 1.0])
    rng = np.random.default_rng(0)

    def score(cell: Architecture) -> tuple[float, float]:
        return 0.5, float(value[list(cell)].sum())

    space = nasbench201(removal="nothing")
    evaluate = Evaluator(space, score, macs(nasbench201(removal="nothing", input_size=4)))
    trials = evaluate([space.random(rng) for _ in range(80)])
    unseen = [space.random(rng) for _ in range(20)]
    predicted = fit(space, trials).predict(unseen)
    assert predicted == pytest.approx([score(cell)[1] for cell in unseen], abs=0.2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.popitem(), "1 of 15625 cells are missing"),
        (lambda t: t.update({"|conv~0|": ["1", "1", "1"]}), "line 15627: .* is not a cell"),
        (lambda t: t.update({architecture_text((0,) * 6): ["1", "1", "0"]}), "line 2: board_ms"),
        (lambda t: t.update({architecture_text((0,) * 6): ["1", "101", "1"]}), "made_test is 101"),
        (lambda t: t.update({architecture_text((0,) * 6): ["1", "nan", "1"]}), "made_test is nan"),
        (lambda t: t.update({architecture_text((0,) * 6): ["1", "x", "1"]}), "line 2: could not"),
        (lambda t: t.update({architecture_text((0,) * 6): ["1"]}), "line 2"),
        (lambda t: t.update({architecture_text((0,) * 6) + ",1,1,1\n" +
                             architecture_text((0,) * 6): ["1", "1", "1"]}), "stands there twice"),
    ],
)  # fmt: skip
def test_damaged_tables_are_refused(
    change: object, words: str, table: dict[str, list[str]], tmp_path: Path
) -> None:
    changed = dict(table)
    changed[architecture_text((0,) * 6)] = changed.pop(architecture_text((0,) * 6))
    changed = {architecture_text((0,) * 6): ["1", "1", "1"], **changed}
    change(changed)  # type: ignore[operator]
    path = write(tmp_path / "cells.csv", changed)
    with pytest.raises(InputError, match=words):
        read_measured_cells(path, SPACE)


def test_other_files_are_refused(tmp_path: Path) -> None:
    for name, content in {
        "missing.csv": None,
        "foreign.csv": b"key,mean_ms\n",
        "empty.csv": b"",
        "binary.csv": b"\xff\xfe\x00",
        "cut.csv.gz": gzip.compress(b"architecture" * 1000)[:-12],
        "plain.csv.gz": b"architecture,a_val\n",
    }.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name} cannot be read as a table of cells"):
            read_measured_cells(tmp_path / name, SPACE)


def test_the_published_tables() -> None:
    folder = os.environ.get("BOARDFIT_DATA")
    if not folder:
        pytest.skip("needs the folder BOARDFIT_DATA: the table in it is not ours to ship")
    path = Path(str(folder)) / "nasbench201_boards.csv.gz"
    cells = read_measured_cells(path, nasbench201(removal="unread"))
    assert set(cells.seconds) == {"raspi4", "pixel3"}
    assert cells.accuracy["cifar10_test"].max() == pytest.approx(0.8916)
    assert cells.seconds["raspi4"][0] < 1e-4  # nothing passes: the converter left next to nothing
    # Operators that cannot reach the output cost nothing.
    known, others = np.split(np.random.default_rng(0).permutation(COUNT), [1000])
    seconds = cells.seconds["raspi4"]
    errors = {}
    for removal in REMOVALS:
        space = nasbench201(removal=removal)
        model = fit_additive(space, all_cells()[known], seconds[known])
        errors[removal] = np.median(np.abs(model(all_cells()[others]) / seconds[others] - 1))
    assert errors["unread"] < 0.075 < 0.08 < errors["nothing"]


# The additive model


@given(st.integers(0, 2**32 - 1))
def test_an_additive_latency_is_found_exactly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    space = nasbench201(removal="nothing")
    shares = rng.normal(size=(6, 5))

    def seconds(rows: Rows) -> Values:
        found: Values = 7 + shares[np.arange(6), rows].sum(axis=1)
        return found

    known, others = np.split(rng.permutation(COUNT)[:400], [300])
    known, others = all_cells()[known], all_cells()[others]
    model = fit_additive(space, known, seconds(known))
    np.testing.assert_allclose(model(others), seconds(others), atol=1e-9)


def test_what_costs_nothing_is_given_no_share() -> None:
    space = nasbench201(removal="unread")
    rng = np.random.default_rng(0)
    known = all_cells()[rng.permutation(COUNT)[:300]]
    model = fit_additive(space, known, np.arange(300.0))
    assert model([(4, 0, 0, 1, 0, 0)]) == model([(0, 0, 0, 1, 0, 0)])


def test_numbers_that_fit_no_model_are_refused() -> None:
    with pytest.raises(ValueError, match="1 networks and"):
        fit_additive(SPACE, [SPACE.full], np.ones(1))
    with pytest.raises(ValueError, match="2 networks and"):
        fit_additive(SPACE, [SPACE.full, SPACE.smallest], np.ones(3))
