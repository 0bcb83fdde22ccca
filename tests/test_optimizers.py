"""One contract for every optimiser, and what each promises beyond it."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from boardfit.devices.errors import ConstraintNotMet
from boardfit.search import metrics
from boardfit.search.coordinate_descent import coordinate_descent, sensitivity
from boardfit.search.descent_settings import (
    ALONE,
    DEFAULT,
    PAPER,
    SINGLE_LAYER,
    DescentSettings,
    scaled,
)
from boardfit.search.evaluation import Evaluator, Race
from boardfit.search.evolution import EvolutionSettings, evolution
from boardfit.search.guide import fit, most_promising
from boardfit.search.history import History
from boardfit.search.moves import Moves, gates, relevant
from boardfit.search.nondominated_sorting import NsgaSettings, nsga
from boardfit.search.polish import polish
from boardfit.search.random_search import RandomSettings, random_search, random_within
from boardfit.search.space import Architecture, SearchSpace
from boardfit.search.trial import Trial, best_trial

from .toy_space import Objective, Toll, everything, tiny_space, toy_space

SPACE = toy_space()
METRIC = metrics.latency(SPACE, Toll())
FULL = float(METRIC([SPACE.full])[0])
SMALLEST = float(METRIC([SPACE.smallest])[0])

Optimizer = Callable[..., Iterator[Trial]]
OPTIMIZERS: dict[str, tuple[Optimizer, Any]] = {
    "descent": (coordinate_descent, replace(DEFAULT, evaluations=60)),
    "descent without guide": (coordinate_descent, replace(DEFAULT, evaluations=60, oversample=1)),
    "descent as in the paper": (coordinate_descent, replace(PAPER, samples=5)),
    "single layer": (coordinate_descent, SINGLE_LAYER),
    "descent by sensitivity": (
        coordinate_descent,
        replace(DEFAULT, evaluations=60, oversample=1, draw="sensitivity"),
    ),
    "single layer with a budget": (coordinate_descent, replace(SINGLE_LAYER, evaluations=60)),
    "guided single layer": (
        coordinate_descent,
        replace(SINGLE_LAYER, evaluations=60, oversample=4),
    ),
    "evolution": (evolution, EvolutionSettings(evaluations=60)),
    "guided evolution": (evolution, EvolutionSettings(evaluations=60, oversample=4)),
    "nsga": (nsga, NsgaSettings(evaluations=40, population=12)),
    "guided nsga": (nsga, NsgaSettings(evaluations=40, population=12, oversample=3)),
    "random": (random_search, RandomSettings(evaluations=60)),
    "guided random": (random_search, RandomSettings(evaluations=60, oversample=4)),
}


@pytest.fixture(params=OPTIMIZERS, ids=str)
def optimizer(request: pytest.FixtureRequest) -> tuple[Optimizer, Any]:
    return OPTIMIZERS[request.param]


def run(
    optimizer: tuple[Optimizer, Any],
    target: float,
    seed: int,
    history: History | None = None,
    space: SearchSpace = SPACE,
    metric: metrics.Metric = METRIC,
) -> tuple[list[Trial], Evaluator, Objective]:
    function, settings = optimizer
    objective = Objective(space, seed)
    evaluate = Evaluator(space, objective, metric, history)
    rng = np.random.default_rng(seed)
    trials = list(function(space, evaluate, metric, target, rng, settings))
    return trials, evaluate, objective


# The contract


@pytest.mark.parametrize("share", [0.07, 0.3, 0.7])
def test_the_best_trial_is_within_the_target(
    optimizer: tuple[Optimizer, Any], share: float
) -> None:
    trials, evaluate, objective = run(optimizer, share * FULL, 0)
    assert best_trial(trials, share * FULL).metric <= share * FULL
    for trial in trials:
        SPACE.check(trial.architecture)
        assert trial.architecture == SPACE.canonical(trial.architecture)
        assert trial.metric == pytest.approx(METRIC([trial.architecture])[0], rel=1e-12)
    assert objective.calls == evaluate.evaluations
    assert {t.architecture for t in trials} == {t.architecture for t in evaluate.trials}
    if (limit := optimizer[1].evaluations) is not None:
        assert evaluate.evaluations <= limit
        if share > 0.1:  # below, too few networks are left
            assert evaluate.evaluations == limit or optimizer[1] in UNPOLISHED


UNPOLISHED = [
    replace(SINGLE_LAYER, evaluations=60),
    replace(SINGLE_LAYER, evaluations=60, oversample=4),
]


def test_the_seed_decides_everything(optimizer: tuple[Optimizer, Any]) -> None:
    first, *_ = run(optimizer, 0.4 * FULL, 3)
    again, *_ = run(optimizer, 0.4 * FULL, 3)
    assert first == again


def test_a_target_above_the_full_network_returns_it(optimizer: tuple[Optimizer, Any]) -> None:
    trials, _, objective = run(optimizer, FULL, 0)
    assert [trial.architecture for trial in trials] == [SPACE.full]
    assert objective.calls == 1


def test_an_unreachable_target_is_refused_before_anything_is_scored(
    optimizer: tuple[Optimizer, Any],
) -> None:
    function, settings = optimizer
    objective = Objective(SPACE, 0)
    evaluate = Evaluator(SPACE, objective, METRIC)
    rng = np.random.default_rng(0)
    least = re.escape(f"{SMALLEST:.6g}")
    with pytest.raises(ConstraintNotMet, match=f"smallest value found is {least}"):
        list(function(SPACE, evaluate, METRIC, 0.99 * SMALLEST, rng, settings))
    assert objective.calls == 0


def test_the_smallest_network_alone_can_meet_the_target(optimizer: tuple[Optimizer, Any]) -> None:
    trials, *_ = run(optimizer, SMALLEST, 0)
    assert best_trial(trials, SMALLEST).metric == SMALLEST


def test_a_run_cut_off_anywhere_is_replayed_without_new_scores(
    optimizer: tuple[Optimizer, Any], tmp_path: Path
) -> None:
    function, settings = optimizer
    target = 0.5 * FULL
    with History(tmp_path / "whole", {}) as history:
        whole, evaluate, _ = run(optimizer, target, 1, history)
    cut = evaluate.evaluations // 2
    with History(tmp_path / "cut", {}) as history:
        unfinished = Evaluator(SPACE, Objective(SPACE, 1), METRIC, history)
        search = function(SPACE, unfinished, METRIC, target, np.random.default_rng(1), settings)
        while unfinished.evaluations < cut:
            next(search)
        done = unfinished.evaluations
    with History(tmp_path / "cut", {}) as history:
        resumed, _, objective = run(optimizer, target, 1, history)
    assert resumed == whole
    assert objective.calls == evaluate.evaluations - done
    with History(tmp_path / "cut", {}) as history:
        assert run(optimizer, target, 1, history)[2].calls == 0


def test_a_race_changes_nothing_of_that(optimizer: tuple[Optimizer, Any], tmp_path: Path) -> None:
    """Within the target and the budget, decided by the seed, replayed; only whole scores win."""
    function, settings = optimizer
    target = 0.4 * FULL

    def raced(history: History) -> tuple[list[Trial], Evaluator]:
        race = Race(Objective(SPACE, 1), 64)
        evaluate = Evaluator(SPACE, Objective(SPACE, 0), METRIC, history, race=race)
        rng = np.random.default_rng(0)
        return list(function(SPACE, evaluate, METRIC, target, rng, settings)), evaluate

    with History(tmp_path, {}) as history:
        trials, evaluate = raced(history)
    best = best_trial(trials, target)
    assert best.images is None
    assert best.metric <= target
    assert evaluate.evaluations <= (settings.evaluations or 1000)
    before = (tmp_path / "history.jsonl").read_bytes()
    with History(tmp_path, {}) as history:
        assert raced(history)[0] == trials
    assert (tmp_path / "history.jsonl").read_bytes() == before


@given(
    name=st.sampled_from(sorted(OPTIMIZERS)),
    prices=st.lists(st.integers(1, 30), min_size=32, max_size=32),
    share=st.floats(0.0, 1.0),
    seed=st.integers(0, 5),
)
@hypothesis_settings(deadline=None, max_examples=150)
def test_any_staircase_ends_within_any_reachable_target(
    name: str, prices: list[int], share: float, seed: int
) -> None:
    """Prices that rise and fall with the width as they like, where local moves get stuck."""
    space = tiny_space()

    def price(layer: Any) -> float:
        return float(prices[(layer.inputs[0][-1] * 5 + layer.output[-1] * 7) % 32])

    metric = metrics.CompiledMetric(space, price)
    known = metric(list(everything(space)))
    target = float(known.min() + share * (known.max() - known.min()))
    try:
        trials, *_ = run(OPTIMIZERS[name], target, seed, space=space, metric=metric)
    except ConstraintNotMet:
        with pytest.raises(ConstraintNotMet):  # lowering one by one cannot find it either
            metrics.reachable(space, metric, target)
        return
    assert best_trial(trials, target).metric <= target


# Coordinate descent


def test_single_layer_descent_follows_the_trajectory_worked_out_by_hand() -> None:
    """MACs = 4 a + a b + 2 b; loss = (4 - a) + 3 (4 - b); target 20, reduction 25 % = 10.

    From (4, 4) = 40: a must fall by 10 at 8 each: (2, 4) = 24, loss 2; b by 10 at 6 each:
    (4, 2) = 28, loss 6. (2, 4) is better. The gap is 4: a to (1, 4) = 16, loss 3; b at 4 each
    to (2, 3) = 20, loss 5. Both meet the target, (1, 4) is better.
    """
    space = tiny_space()
    metric = metrics.macs(space)

    def score(architecture: Architecture) -> tuple[float, float]:
        loss = (4.0 - architecture[0]) + 3.0 * (4.0 - architecture[2])
        return -loss, loss

    evaluate = Evaluator(space, score, metric)
    settings = replace(SINGLE_LAYER, initial_reduction=0.25, decay=1.0)
    rng = np.random.default_rng(0)
    trials = list(coordinate_descent(space, evaluate, metric, 20.0, rng, settings))
    assert [(t.architecture[0], t.architecture[2], t.metric, t.origin) for t in trials] == [
        (4, 4, 40.0, "iterate"),
        (2, 4, 24.0, "sample"),
        (4, 2, 28.0, "sample"),
        (2, 4, 24.0, "iterate"),
        (1, 4, 16.0, "sample"),
        (2, 3, 20.0, "sample"),
        (1, 4, 16.0, "iterate"),
    ]


def test_iterates_are_a_falling_trade_off_curve_from_the_full_network() -> None:
    settings = replace(PAPER, samples=20, initial_reduction=0.2, decay=0.5, acceptance=(0.9, 1.2))
    trials, *_ = run((coordinate_descent, settings), 0.3 * FULL, 0)
    curve = [t for t in trials if t.origin == "iterate"]
    assert curve[0].architecture == SPACE.full
    assert all(b.metric < a.metric for a, b in itertools.pairwise(curve))
    assert 0.9 * 0.3 * FULL <= curve[-1].metric <= 0.3 * FULL
    falls = [a.metric - b.metric for a, b in itertools.pairwise(curve[:4])]
    for number, fall in enumerate(falls):
        assert 0.9 - 1e-6 <= fall / (0.2 * FULL * 0.5**number) <= 1.2 + 1e-6


def test_each_iterate_is_the_best_of_its_samples() -> None:
    settings = replace(PAPER, samples=10, initial_reduction=0.1)
    trials, *_ = run((coordinate_descent, settings), 0.4 * FULL, 2)
    samples: list[Trial] = []
    for trial in trials[1:]:
        if trial.origin == "sample":
            samples.append(trial)
        else:
            assert trial.accuracy == max(t.accuracy for t in samples)
            assert len({t.architecture for t in samples}) == len(samples) <= 10
            samples = []


def test_the_polish_never_makes_it_worse_and_stays_within_the_band() -> None:
    trials, *_ = run((coordinate_descent, DEFAULT), 0.4 * FULL, 1)
    reached = next(t for t in trials if t.origin == "iterate" and t.metric <= 0.4 * FULL)
    polished = [t for t in trials if t.origin == "polish"]
    assert len(polished) > 10
    assert all(0.9 * 0.4 * FULL <= t.metric <= 0.4 * FULL for t in polished)
    assert best_trial(trials, 0.4 * FULL).loss < reached.loss


@pytest.mark.parametrize("oversample", [1, 12])
def test_a_guided_polish_also_looks_far_from_the_best(oversample: int) -> None:
    # All that is known within the target is a poor network; what else is known teaches the guide.
    rng, moves = np.random.default_rng(0), Moves(SPACE, METRIC)
    evaluate, target = Evaluator(SPACE, Objective(SPACE, 1), METRIC), 0.4 * FULL
    within = evaluate(random_within(moves, target, 0.9, SPACE.smallest, rng, 99))
    worst = max(within, key=lambda trial: trial.loss)
    others = [a for a in (SPACE.random(rng) for _ in range(99)) if METRIC([a])[0] > target]
    known = {t.architecture: t for t in (worst, *evaluate(others))}
    settings = replace(DEFAULT, oversample=oversample)
    end = len(known) + settings.polish_batch
    found = list(polish(moves, evaluate, target, rng, settings, known, end))
    assert len(found) == settings.polish_batch
    apart = [np.count_nonzero(np.subtract(t.architecture, worst.architecture)) for t in found]
    # A swap shrinks at most two coordinates and grows three, and may end a block with all it has.
    assert (max(apart) > 8) == (oversample > 1)


def test_several_targets_are_met_by_one_descent() -> None:
    targets = [0.6 * FULL, 0.25 * FULL, 0.4 * FULL]
    objective = Objective(SPACE, 1)
    evaluate = Evaluator(SPACE, objective, METRIC)
    settings = replace(DEFAULT, evaluations=120)
    rng = np.random.default_rng(1)
    trials = list(coordinate_descent(SPACE, evaluate, METRIC, targets, rng, settings))
    assert objective.calls == evaluate.evaluations == 120
    for target in targets:
        best = best_trial(trials, target)
        assert 0.9 * target <= best.metric <= target
    # Each target has its part of the evaluations, the largest first.
    polished = [t for t in trials if t.origin == "polish"]
    for number, target in enumerate(sorted(targets, reverse=True)):
        mine = [t for t in polished if 0.9 * target <= t.metric <= target]
        assert mine
        assert all(40 * number <= t.number < 40 * (number + 1) for t in mine)
    assert [t for t in trials if t.origin == "iterate"][-1].metric <= min(targets)
    evaluate, rng = Evaluator(SPACE, Objective(SPACE, 1), METRIC), np.random.default_rng(1)
    twice = [targets[1]] * 2
    once = list(coordinate_descent(SPACE, evaluate, METRIC, twice, rng, DEFAULT))
    alone, *_ = run((coordinate_descent, DEFAULT), targets[1], 1)
    assert once == alone


def test_the_smallest_of_several_targets_must_be_reachable() -> None:
    objective = Objective(SPACE, 0)
    evaluate = Evaluator(SPACE, objective, METRIC)
    rng = np.random.default_rng(0)
    with pytest.raises(ConstraintNotMet):
        list(coordinate_descent(SPACE, evaluate, METRIC, [FULL, 0.99 * SMALLEST], rng))
    assert objective.calls == 0


def test_sensitive_coordinates_are_drawn_less() -> None:
    """The objective's weights are known: what costs much is shrunk rarely."""
    objective = Objective(SPACE, 3)
    rng = np.random.default_rng(0)
    seen = Evaluator(SPACE, objective, METRIC)(
        [SPACE.full, *(SPACE.random(rng) for _ in range(200))]
    )
    moves = Moves(SPACE, METRIC)
    fall = 0.02 * FULL
    weights = sensitivity(moves, seen[0], fall, seen)
    assert weights.sum() == pytest.approx(1.0)
    assert weights.min() >= 0.25 / len(weights) * (1 - 1e-9)
    rows = moves.repeat(SPACE.full, len(weights))
    values = np.full(len(rows), FULL)
    shrunk, after = moves.shrink(rows, values, np.arange(len(rows)), values - fall)
    price = np.array([objective.loss(SPACE.canonical(tuple(r))) for r in shrunk.tolist()])
    price = (price - objective.loss(SPACE.full)) / np.maximum(FULL - after, 1e-12)
    possible = after < FULL
    cheap = np.argsort(np.where(possible, price, np.inf))[:5]
    assert weights[cheap].mean() > 2 * np.median(weights)
    assert (weights[~possible] == weights.min()).all()


def test_draws_follow_their_weights() -> None:
    moves = Moves(SPACE, METRIC)
    mask = np.ones((40_000, len(moves.sizes)), bool)
    mask[:, 5] = False
    weights = np.ones(len(moves.sizes))
    weights[:3] = (5.0, 3.0, 2.0)
    drawn = np.bincount(moves.draw(mask, np.random.default_rng(0), weights), minlength=len(weights))
    expected = np.where(np.arange(len(weights)) == 5, 0.0, weights)
    np.testing.assert_allclose(drawn / len(mask), expected / expected.sum(), atol=0.006)
    assert drawn[5] == 0


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_the_papers_settings_are_scaled_to_a_budget(share: float) -> None:
    """The same schedule in fewer steps: it still ends at the target."""
    for preset in (PAPER, SINGLE_LAYER):
        small = scaled(preset, 120, share, 23)
        iterations, left, reduction = 0, 1.0, small.initial_reduction
        while left > share * (1 + 1e-9) and iterations < 100:
            left -= reduction
            reduction *= small.decay
            iterations += 1
        spent = iterations * (23 / ALONE if small.draw == "each" else small.samples)
        assert 80 <= spent <= 180
        assert small.evaluations == 120
        assert small.layers == preset.layers
    assert scaled(PAPER, 100_000, share, 23) == replace(PAPER, evaluations=100_000)
    with pytest.raises(ValueError, match="never reach"):
        scaled(replace(PAPER, initial_reduction=0.001), 120, share, 23)


@pytest.mark.parametrize(
    "wrong", [{"evaluations": 0}, {"population": 1}, {"attempts": 0}, {"floor": 2.0}], ids=str
)
def test_impossible_populations_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"at least|floor"):
        NsgaSettings(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"samples": 0},
        {"layers": 0},
        {"oversample": 0},
        {"evaluations": 1},
        {"guide_after": 1},
        {"polish_batch": -1},
        {"initial_reduction": 0.0},
        {"decay": 1.5},
        {"floor": 1.1},
        {"acceptance": (1.1, 1.6)},
        {"acceptance": (0.5, 0.9)},
    ],
    ids=str,
)
def test_impossible_descents_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"at least|fractions|acceptance"):
        DescentSettings(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"evaluations": 0}, {"population": 0}, {"tournament": 25}, {"floor": -0.1}], ids=str
)
def test_impossible_evolutions_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"at least|tournament|floor"):
        EvolutionSettings(**wrong)


@pytest.mark.parametrize("wrong", [{"evaluations": 0}, {"attempts": 0}, {"floor": 2.0}], ids=str)
def test_impossible_random_searches_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"at least|floor"):
        RandomSettings(**wrong)


# Quality: medians over ten objectives, at equal numbers of evaluations


def median_loss(optimizer: tuple[Optimizer, Any], share: float, evaluations: int) -> float:
    losses = []
    for seed in range(10):
        function, settings = optimizer
        settings = replace(settings, evaluations=evaluations)
        trials, evaluate, _ = run((function, settings), share * FULL, seed)
        assert evaluate.evaluations == evaluations
        losses.append(best_trial(trials, share * FULL).loss)
    return float(np.median(losses))


def test_descent_beats_random_at_equal_evaluations() -> None:
    descent = median_loss((coordinate_descent, DEFAULT), 0.3, 120)
    evolved = median_loss((evolution, EvolutionSettings()), 0.3, 120)
    drawn = median_loss((random_search, RandomSettings()), 0.3, 120)
    assert descent < 0.8 * drawn
    assert descent < evolved < drawn


@pytest.mark.parametrize(
    "plain",
    [(evolution, EvolutionSettings()), (random_search, RandomSettings())],
    ids=["evolution", "random"],
)
def test_the_guide_improves_evolution_and_random_search(plain: tuple[Optimizer, Any]) -> None:
    guided = (plain[0], replace(plain[1], oversample=6))
    assert median_loss(guided, 0.5, 60) < median_loss(plain, 0.5, 60)


def test_descent_comes_near_the_known_optimum() -> None:
    """Few coordinates, every network enumerated: the best of all in the band is known."""
    space = toy_space(2)
    space = SearchSpace("small", (16, 16, 3), 4, (*space.stages[:2], space.stages[-1]))
    metric = metrics.latency(space, Toll())
    known = list(everything(space))
    values = metric(known)
    target = 0.5 * float(metric([space.full])[0])
    band = np.flatnonzero((values <= target) & (values >= 0.9 * target))
    regrets = []
    for seed in range(10):
        objective = Objective(space, seed)
        best = min(objective.loss(known[i]) for i in band)
        settings = replace(DEFAULT, evaluations=60)
        trials, *_ = run((coordinate_descent, settings), target, seed, space=space, metric=metric)
        regrets.append(best_trial(trials, target).loss - best)
    assert np.median(regrets) < 0.01
    assert max(regrets) < 0.1


# Guide


def test_the_guide_orders_networks_it_has_not_seen() -> None:
    rng = np.random.default_rng(0)
    objective = Objective(SPACE, 0)
    evaluate = Evaluator(SPACE, objective, METRIC)
    seen = evaluate([SPACE.random(rng) for _ in range(80)])
    unseen = [SPACE.random(rng) for _ in range(200)]
    predicted = fit(SPACE, seen).predict(unseen)
    true = np.array([objective.loss(a) for a in unseen])
    assert np.corrcoef(predicted, true)[0, 1] > 0.9
    order = most_promising(SPACE, seen, unseen, 10)
    assert len(order) == 10
    assert true[order].mean() < np.quantile(true, 0.2)
    assert (np.diff(predicted[order]) >= 0).all()


@pytest.mark.parametrize(
    ("losses", "predicted"),
    [((1.0, 10.0, 100.0), math.log(10.0)), ((0.0, 1.0, 2.0), 1.0), ((-1.0, 2.0, 5.0), 2.0)],
)
def test_a_guide_of_equal_networks_predicts_their_mean(
    losses: tuple[float, ...], predicted: float
) -> None:
    # Of the logarithms, where all losses have one.
    trials = [Trial(i, SPACE.full, 0.5, loss, 1.0, "sample") for i, loss in enumerate(losses)]
    found = fit(SPACE, trials).predict([SPACE.full, SPACE.smallest])
    assert found.tolist() == pytest.approx([predicted, predicted])
    with pytest.raises(ValueError, match="two trials"):
        fit(SPACE, trials[:1])


# Moves


def test_a_removed_blocks_other_coordinates_decide_nothing() -> None:
    rows = np.array([SPACE.full, SPACE.full])
    rows[1, 2] = 0
    assert SPACE.coordinates[2].name == "a0.filters"
    expected = np.ones(rows.shape, bool)
    expected[1, [3, 4]] = False
    assert (relevant(rows, gates(SPACE)) == expected).all()


@given(seed=st.integers(0, 10_000), fall=st.floats(0.0, 0.2))
@hypothesis_settings(deadline=None, max_examples=60)
def test_shrinking_takes_the_first_smaller_value_that_falls_far_enough(
    seed: int, fall: float
) -> None:
    rng = np.random.default_rng(seed)
    start = SPACE.random(rng)
    moves = Moves(SPACE, METRIC)
    rows = moves.repeat(start, len(start))
    before = METRIC(rows)
    shrunk, after = moves.shrink(rows, before, np.arange(len(start)), before - fall * FULL)
    np.testing.assert_array_equal(after, METRIC(shrunk))
    for column, coordinate in enumerate(SPACE.coordinates):
        options = [v for v in reversed(coordinate.values) if v < start[column]]
        prices = [METRIC([(*start[:column], v, *start[column + 1 :])])[0] for v in options]
        enough = [
            v
            for v, p in zip(options, prices, strict=True)
            if p <= before[column] - fall * FULL and p < before[column]
        ]
        lower = [p for p in prices if p < before[column]]
        if enough:
            expected = enough[0]
        elif lower:
            expected = options[prices.index(min(lower))]
        else:
            expected = start[column]
        assert shrunk[column, column] == expected


@given(seed=st.integers(0, 10_000), share=st.floats(0.1, 0.9))
@hypothesis_settings(deadline=None, max_examples=40)
def test_swaps_and_settling_stay_within_the_target(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    moves = Moves(SPACE, METRIC)
    target = share * FULL
    small = metrics.reachable(SPACE, METRIC, target)
    drawn = metrics.as_rows(SPACE, [SPACE.random(rng) for _ in range(100)])
    settled, values = moves.settle(drawn, target, 0.9 * target, small, rng)
    np.testing.assert_array_equal(values, METRIC(settled))
    assert (values <= target).all()
    # Most rows come close; some are stuck where no coordinate alone fits any more.
    assert (values >= 0.9 * target).mean() > 0.4
    swapped, values = moves.swap(settled, target, rng)
    np.testing.assert_array_equal(values, METRIC(swapped))
    for row in metrics.as_architectures(swapped):
        SPACE.check(row)
