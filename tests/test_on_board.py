"""Hardware in the loop: what measured networks say of others, and which network is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from boardfit.profiler.table import Estimate
from boardfit.search.candidate import Reading
from boardfit.search.coordinate_descent import coordinate_descent
from boardfit.search.correction import Correction
from boardfit.search.descent_settings import DescentSettings
from boardfit.search.evaluation import Evaluator
from boardfit.search.metrics import latency
from boardfit.search.on_board import Confirmed, Measure, confirm, measure_for
from boardfit.search.space import Architecture
from boardfit.search.trial import Trial, best_trial

from .toy_space import Objective, Toll, toy_space

SPACE = toy_space()
METRIC = latency(SPACE, Toll())
FULL = float(METRIC([SPACE.full])[0])
TARGET = 0.5 * FULL


def board(factor: float, *, local: float = 0.0) -> Measure:
    """A board on which everything takes `factor` times the prediction, and each network up to
    `local` more or less."""

    def measure(architectures: Sequence[Architecture], session: int) -> list[Reading]:
        readings = []
        for architecture, predicted in zip(architectures, METRIC(architectures), strict=True):
            own = np.random.default_rng(list(architecture)).uniform(-local, local)
            seconds = float(predicted) * factor * (1 + own)
            estimate = Estimate(float(predicted), float(predicted), float(predicted))
            limits = (seconds * 0.99, seconds * 1.01)
            readings.append(Reading(estimate, seconds, limits, "steady"))
        return readings

    return measure


def searched(seed: int = 0) -> tuple[list[Trial], Evaluator]:
    evaluator = Evaluator(SPACE, Objective(SPACE, seed), METRIC)
    rng = np.random.default_rng(seed)
    settings = DescentSettings(evaluations=60)
    return list(coordinate_descent(SPACE, evaluator, METRIC, TARGET, rng, settings)), evaluator


def confirmed(measure: Measure, *, at_most: int = 12, seed: int = 0) -> Confirmed:
    trials, evaluator = searched(seed)
    correction = Correction(SPACE, 0.03)
    rng = np.random.default_rng(1)
    search = confirm(
        SPACE, METRIC, trials, TARGET, evaluator, correction, rng, at_most=at_most
    )  # fmt: skip
    return measure_for({"only": search}, measure)["only"]


def test_without_measurements_a_prediction_stands_with_the_error_of_the_table() -> None:
    mean, deviation = Correction(SPACE, 0.02)([SPACE.full, SPACE.smallest])
    np.testing.assert_array_equal(mean, 0.0)
    np.testing.assert_array_equal(deviation, 0.02)


def test_a_measured_network_corrects_itself_its_neighbours_and_a_little_all_others() -> None:
    near = (SPACE.full[0] - 8, *SPACE.full[1:])
    correction = Correction(SPACE, 0.03).measured([SPACE.full], [1.05], [0.003])
    mean, deviation = correction([SPACE.full, near, SPACE.smallest])
    assert np.exp(mean[0]) == pytest.approx(1.05, abs=0.001)
    assert mean[0] > mean[1] > 0.9 * mean[0]
    assert 0.4 * mean[0] < mean[2] < 0.6 * mean[0]
    assert deviation[0] < 0.004
    assert deviation[0] < deviation[1] < deviation[2] < 0.03
    np.testing.assert_allclose(
        correction.corrected(METRIC)([near]), METRIC([near]) * np.exp(mean[1])
    )


def test_many_measurements_find_what_is_common_and_noise_is_not_believed() -> None:
    rng = np.random.default_rng(0)
    networks = [SPACE.random(rng) for _ in range(40)]
    correction = Correction(SPACE, 0.03).measured(networks, [1.04] * 40, [0.003] * 40)
    mean, _ = correction([SPACE.random(rng) for _ in range(20)])
    np.testing.assert_allclose(np.exp(mean), 1.04, atol=0.01)
    unsure = Correction(SPACE, 0.03).measured([SPACE.full], [1.05], [0.3])
    assert abs(unsure([SPACE.full])[0][0]) < 0.001


def test_a_correction_refuses_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Correction(SPACE, 0.0)
    with pytest.raises(ValueError, match="above 0"):
        Correction(SPACE, 0.03).measured([SPACE.full], [1.0], [0.0])
    with pytest.raises(ValueError, match="needs its value"):
        Correction(SPACE, 0.03, (SPACE.full,), (0.1,), ())


def test_where_the_table_is_right_the_best_network_is_measured_and_kept() -> None:
    trials, _ = searched()
    found = confirmed(board(1.0))
    measured = {c.architecture: c.reading.seconds for c in found.candidates}
    assert measured[found.architecture] <= TARGET
    objective = Objective(SPACE, 0)
    assert objective.loss(found.architecture) <= best_trial(trials, TARGET).loss


@pytest.mark.parametrize("seed", range(3))
def test_where_the_board_is_slower_than_predicted_the_choice_still_keeps_the_target(
    seed: int,
) -> None:
    trials, _ = searched(seed)
    trusting = best_trial(trials, TARGET).architecture
    measure = board(1.06, local=0.02)
    assert measure([trusting], 0)[0].seconds > TARGET
    found = confirmed(measure, seed=seed)
    assert measure([found.architecture], 0)[0].seconds <= TARGET
    assert len(found.candidates) <= 12
    # What was learnt is used: later candidates are expected nearer to what they take.
    errors = [abs(c.expected / c.reading.seconds - 1) for c in found.candidates]
    assert errors[-1] < errors[0]
    assert found.trials  # the polish went on


def test_where_the_board_is_faster_a_better_network_is_found() -> None:
    trials, _ = searched()
    found = confirmed(board(0.94))
    assert Objective(SPACE, 0).loss(found.architecture) < best_trial(trials, TARGET).loss
    measured = {c.architecture: c.reading.seconds for c in found.candidates}
    assert measured[found.architecture] <= TARGET


def test_no_more_than_allowed_is_measured_and_none_twice() -> None:
    for at_most in (1, 3, 7):
        found = confirmed(board(1.2), at_most=at_most)
        architectures = [candidate.architecture for candidate in found.candidates]
        assert len(set(architectures)) == len(architectures) <= at_most
    # Nothing was measured within the target: the best that is expected to keep it.
    assert METRIC([found.architecture])[0] < TARGET / 1.1


def test_several_searches_share_sessions_and_choose_as_if_alone() -> None:
    sessions: list[int] = []

    def counted(architectures: Sequence[Architecture], session: int) -> list[Reading]:
        assert len(set(architectures)) == len(architectures) > 0
        sessions.append(session)
        return board(1.05)(architectures, session)

    alone = {seed: confirmed(board(1.05), seed=seed) for seed in (0, 1)}
    searches = {}
    for seed in alone:
        trials, evaluator = searched(seed)
        searches[str(seed)] = confirm(
            SPACE, METRIC, trials, TARGET, evaluator, Correction(SPACE, 0.03),
            np.random.default_rng(1), at_most=12,
        )  # fmt: skip
    together = measure_for(searches, counted)
    assert {int(name): found for name, found in together.items()} == alone
    assert sessions == list(range(len(sessions)))
    assert measure_for({}, counted) == {}


def test_the_same_measurements_give_the_same_choice() -> None:
    assert confirmed(board(1.03, local=0.03)) == confirmed(board(1.03, local=0.03))


def test_what_was_measured_too_slow_is_not_chosen_for_its_prediction() -> None:
    def unsure(architectures: Sequence[Architecture], session: int) -> list[Reading]:
        """Measured 5 % slower, so roughly that the correction hardly believes it."""
        return [
            replace(reading, limits=(reading.seconds * 0.5, reading.seconds * 2))
            for reading in board(1.05)(architectures, session)
        ]

    found = confirmed(unsure, at_most=4)
    too_slow = {c.architecture for c in found.candidates if c.reading.seconds > TARGET}
    assert too_slow
    assert found.architecture not in too_slow


def test_what_may_be_within_is_measured_only_where_it_is_better_than_what_is() -> None:
    rng = np.random.default_rng(0)
    evaluator = Evaluator(SPACE, Objective(SPACE, 0), METRIC)
    trials = evaluator(list({SPACE.random(rng) for _ in range(300)}))
    search = confirm(
        SPACE, METRIC, trials, TARGET, evaluator, Correction(SPACE, 0.03), rng, at_most=12
    )
    losses = {trial.architecture: trial.loss for trial in trials}
    within: list[float] = []
    doubtful: list[float] = []
    for architecture in next(search):
        known = within if METRIC([architecture])[0] <= TARGET else doubtful
        known.append(losses[architecture])
    assert within
    assert all(loss < min(within) for loss in doubtful)
    some = [t for t in trials if TARGET < t.metric <= 1.01 * TARGET and t.loss > min(within)]
    assert some  # that a search which measured whatever may be within would have measured
