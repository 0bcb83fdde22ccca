"""Each network is scored once; the history survives kills and refuses damage."""

from __future__ import annotations

import math
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boardfit.devices.errors import (
    BoardfitError,
    BudgetSpent,
    ConstraintNotMet,
    InUse,
    RunFolderError,
    SpaceError,
    StorageError,
)
from boardfit.search.evaluation import Evaluator, Race
from boardfit.search.history import History
from boardfit.search.metrics import macs
from boardfit.search.space import Architecture
from boardfit.search.trial import Trial, best_trial, rank

from .toy_space import Objective, toy_space

SPACE = toy_space()
MACS = macs(SPACE)
IDENTITY: dict[str, str | int | float] = {"space": "toy", "seed": 7, "target": 0.25}
RNG = np.random.default_rng(0)
SOME = list(dict.fromkeys(SPACE.random(RNG) for _ in range(8)))


def trial(number: int) -> Trial:
    return Trial(number, SOME[number], 0.1 + 0.07 * number, 1 / (1 + number), 1e-3 / 3, "sample")


def write(folder: Path, count: int) -> list[Trial]:
    with History(folder, IDENTITY) as history:
        for number in range(count):
            history.append(trial(number))
        return list(history.trials)


def read(folder: Path) -> list[Trial]:
    with History(folder, IDENTITY) as history:
        return list(history.trials)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[Trial]]:
    folder = tmp_path_factory.mktemp("history")
    trials = write(folder, 4)
    return (folder / "history.jsonl").read_bytes(), trials


def reopened(content: bytes) -> list[Trial]:
    with tempfile.TemporaryDirectory() as name:
        Path(name, "history.jsonl").write_bytes(content)
        found = read(Path(name))
        # Whatever was cut off, the file can be written on.
        with History(Path(name), IDENTITY) as history:
            history.append(trial(len(found)))
        assert read(Path(name)) == [*found, trial(len(found))]
        return found


def test_trials_come_back_exactly(tmp_path: Path) -> None:
    trials = write(tmp_path / "new" / "folder", 5)
    assert len(trials) == 5
    assert read(tmp_path / "new" / "folder") == trials
    assert read(tmp_path / "new" / "folder") == trials


@given(data=st.data())
@settings(deadline=None, max_examples=300)
def test_a_file_cut_anywhere_gives_the_trials_before_the_cut(
    written: tuple[bytes, list[Trial]], data: st.DataObject
) -> None:
    content, trials = written
    cut = data.draw(st.integers(0, len(content)))
    whole = max(0, content[:cut].count(b"\n") - 1)
    assert reopened(content[:cut]) == trials[:whole]


@given(data=st.data())
@settings(deadline=None, max_examples=300)
def test_any_other_damage_is_refused_with_its_line(
    written: tuple[bytes, list[Trial]], data: st.DataObject
) -> None:
    content, _ = written
    place = data.draw(st.integers(0, len(content) - 2))  # without the last newline: a torn line
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[place]))
    damaged = content[:place] + bytes([byte]) + content[place + 1 :]
    line = content[:place].count(b"\n") + 1
    pattern = f"line {line};?" if line > 1 else "history of boardfit|version|other settings"
    with pytest.raises(RunFolderError, match=pattern):
        reopened(damaged)


@pytest.mark.parametrize("change", ["swap", "drop", "repeat"])
def test_lines_out_of_order_are_refused(written: tuple[bytes, list[Trial]], change: str) -> None:
    header, *lines = written[0].splitlines(keepends=True)
    if change == "swap":
        lines[1], lines[2] = lines[2], lines[1]
    elif change == "drop":
        del lines[1]
    else:
        lines.insert(1, lines[1])
    with pytest.raises(RunFolderError, match=r"damaged in line [34]"):
        reopened(header + b"".join(lines))


@pytest.mark.parametrize("content", [b"my diary", b"my diary\n", b"{}\n", b"[1]\n", b"\x00\n"])
def test_a_file_of_someone_else_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "history.jsonl"
    path.write_bytes(content)
    with pytest.raises(RunFolderError, match="history of boardfit"):
        read(tmp_path)
    assert path.read_bytes() == content


def test_a_run_begun_with_other_settings_is_refused(tmp_path: Path) -> None:
    write(tmp_path, 1)
    with pytest.raises(RunFolderError, match="seed 7, now 8"):
        History(tmp_path, {**IDENTITY, "seed": 8})


def test_another_version_is_refused(tmp_path: Path, written: tuple[bytes, list[Trial]]) -> None:
    content = written[0].replace(b'"version":2', b'"version":3')
    with pytest.raises(RunFolderError, match="version 3"):
        reopened(content)


def test_a_history_is_open_in_one_place_at_a_time(tmp_path: Path) -> None:
    with History(tmp_path, IDENTITY) as history:
        with pytest.raises(InUse, match="another process"):
            History(tmp_path, IDENTITY)
        history.append(trial(0))
    history.close()
    assert read(tmp_path) == [trial(0)]


def test_a_refused_file_is_not_kept_locked(tmp_path: Path) -> None:
    write(tmp_path, 1)
    with pytest.raises(RunFolderError):
        History(tmp_path, {"space": "other"})
    assert len(read(tmp_path)) == 1


def test_numbers_follow_one_another(tmp_path: Path) -> None:
    with History(tmp_path, IDENTITY) as history, pytest.raises(ValueError, match="cannot follow"):
        history.append(trial(3))


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        History(tmp_path / "file" / "run", IDENTITY)


def test_a_file_that_may_not_grow_is_a_storage_error_and_leaves_whole_lines(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    write(tmp_path, 1)
    size = os.path.getsize(tmp_path / "history.jsonl")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with History(tmp_path, IDENTITY) as history:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, limits[1]))
            with pytest.raises(StorageError):
                history.append(trial(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert os.path.getsize(tmp_path / "history.jsonl") == size


@pytest.mark.parametrize("field", ["accuracy", "loss", "metric"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_trial_has_finite_figures(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"the {field} of a trial"):
        replace(trial(0), **{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"number": -1}, {"architecture": ()}, {"origin": ""}])
def test_a_trial_is_complete(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="a trial needs"):
        replace(trial(0), **change)  # type: ignore[arg-type]


def test_a_network_is_scored_once_however_it_is_written() -> None:
    objective = Objective(SPACE, 0)
    evaluate = Evaluator(SPACE, objective, MACS)
    removed = list(SPACE.full)
    removed[2] = 0
    other = list(removed)
    other[3] = 8
    first, second, third = evaluate([tuple(removed), tuple(other), SPACE.full])
    assert first is second
    assert first.architecture == SPACE.canonical(tuple(other))
    assert [first.number, third.number] == [0, 1]
    assert evaluate([SPACE.full], "again") == [third]
    assert (evaluate.evaluations, objective.calls) == (2, 2)
    assert evaluate.trials == [first, third]
    assert first.metric == MACS([first.architecture])[0]
    assert evaluate([]) == []


def test_the_origin_is_that_of_the_first_time() -> None:
    evaluate = Evaluator(SPACE, Objective(SPACE, 0), MACS)
    evaluate([SOME[0]], "uniform")
    assert evaluate([SOME[0]], "iterate")[0].origin == "uniform"


def test_a_network_outside_of_the_space_is_never_scored() -> None:
    objective = Objective(SPACE, 0)
    with pytest.raises(SpaceError):
        Evaluator(SPACE, objective, MACS)([SPACE.full, (1,) * len(SPACE.full)])
    assert objective.calls == 0


def test_a_second_process_answers_from_the_history(tmp_path: Path) -> None:
    with History(tmp_path, IDENTITY) as history:
        before = Evaluator(SPACE, Objective(SPACE, 0), MACS, history)(SOME[:5])
    objective = Objective(SPACE, 0)
    with History(tmp_path, IDENTITY) as history:
        evaluate = Evaluator(SPACE, objective, MACS, history)
        assert evaluate.evaluations == 0
        after = evaluate(SOME[:7])
    assert after[:5] == before
    assert (objective.calls, evaluate.evaluations) == (2, 7)
    assert [t.number for t in read(tmp_path)] == list(range(7))


def test_what_was_scored_before_an_interruption_is_kept(tmp_path: Path) -> None:
    def interrupted(architecture: Architecture) -> tuple[float, float]:
        if architecture == SOME[3]:
            raise KeyboardInterrupt
        return 0.5, 1.0

    with History(tmp_path, IDENTITY) as history, pytest.raises(KeyboardInterrupt):
        Evaluator(SPACE, interrupted, MACS, history)(SOME)
    assert [t.architecture for t in read(tmp_path)] == SOME[:3]


def test_changed_prices_are_refused(tmp_path: Path) -> None:
    with History(tmp_path, IDENTITY) as history:
        Evaluator(SPACE, Objective(SPACE, 0), MACS, history)(SOME[:1])
    with History(tmp_path, IDENTITY) as history:
        evaluate = Evaluator(SPACE, Objective(SPACE, 0), lambda a: MACS(a) * 1.001, history)
        with pytest.raises(RunFolderError, match="prices have changed"):
            evaluate(SOME[:1])


def test_the_budget_counts_different_networks_and_is_the_same_after_a_restart(
    tmp_path: Path,
) -> None:
    for _ in range(2):
        with History(tmp_path, IDENTITY) as history:
            evaluate = Evaluator(SPACE, Objective(SPACE, 0), MACS, history, budget=3)
            assert evaluate.remaining == 3
            evaluate([SOME[0], SOME[1], SOME[0]])
            assert evaluate.remaining == 1
            with pytest.raises(BudgetSpent, match="budget of 3"):
                evaluate(SOME[:4])
            assert len(evaluate(SOME[:3])) == 3
        assert len(read(tmp_path)) == 3
    with pytest.raises(ValueError, match="allows nothing"):
        Evaluator(SPACE, Objective(SPACE, 0), MACS, budget=0)


@pytest.mark.parametrize("scores", [(math.nan, 1.0), (0.5, math.inf)])
def test_a_diverged_super_network_is_named(scores: tuple[float, float]) -> None:
    with pytest.raises(BoardfitError, match="diverged"):
        Evaluator(SPACE, lambda a: scores, MACS)(SOME[:1])


def test_the_best_trial_is_within_the_target_and_best_by_the_criterion() -> None:
    def made(number: int, accuracy: float, loss: float, metric: float) -> Trial:
        return Trial(number, SOME[number], accuracy, loss, metric, "sample")

    trials = [made(0, 0.9, 0.1, 3.0), made(1, 0.8, 0.3, 2.0), made(2, 0.7, 0.2, 2.0)]
    trials.append(made(3, 0.8, 0.2, 2.0))
    assert best_trial(trials, 3.0).number == 0
    assert best_trial(trials, 2.0).number == 3
    assert best_trial(trials[:3], 2.0, "loss").number == 2
    assert best_trial(trials[:3], 2.0, "accuracy").number == 1
    assert rank(trials[1], "accuracy") > rank(trials[3], "accuracy")
    with pytest.raises(ConstraintNotMet, match="smallest value among them is 2"):
        best_trial(trials, 1.0)
    with pytest.raises(ConstraintNotMet, match="none of 0"):
        best_trial([], 1.0)


# Racing


def raced(history: History | None = None, images: int = 64) -> tuple[Evaluator, Objective]:
    """An evaluator whose slice ranks networks by another objective than the whole holdout."""
    objective, part = Objective(SPACE, 0), Objective(SPACE, 1)
    race = Race(part, images, keep=0.25)
    return Evaluator(SPACE, objective, MACS, history, race=race), objective


def test_a_race_scores_only_the_best_on_all_images() -> None:
    evaluate, objective = raced()
    trials = evaluate(SOME)
    kept = [t for t in trials if t.images is None]
    slices = {a: Objective(SPACE, 1).loss(a) for a in SOME}
    assert {t.architecture for t in kept} == set(sorted(SOME, key=slices.__getitem__)[:2])
    assert objective.calls == 2
    for t in trials:
        whole = t.images is None
        assert t.loss == (Objective(SPACE, 0) if whole else Objective(SPACE, 1)).loss(
            t.architecture
        )
    assert evaluate.images(512) == len(SOME) * 64 + 2 * 512
    assert evaluate.evaluations == len(SOME)


def test_who_lost_a_race_is_never_the_best() -> None:
    evaluate, _ = raced()
    trials = evaluate(SOME)
    left = next(t for t in trials if t.images is not None)
    perfect = replace(left, loss=0.0, accuracy=1.0)
    assert best_trial([*trials, perfect], math.inf).images is None
    whole = next(t for t in trials if t.images is None)
    for criterion in ("loss", "accuracy"):
        assert rank(perfect, criterion) > rank(whole, criterion)
    with pytest.raises(ConstraintNotMet):
        best_trial([left], math.inf)


def test_a_network_alone_is_not_raced() -> None:
    evaluate, objective = raced()
    assert evaluate(SOME[:1])[0].images is None
    assert objective.calls == 1
    assert evaluate.images(512) == 512


def test_a_race_is_replayed_step_by_step(tmp_path: Path) -> None:
    batches = [SOME[:5], SOME[3:8]]
    with History(tmp_path, IDENTITY) as history:
        evaluate, _ = raced(history)
        whole = [evaluate(batch) for batch in batches]
    content = (tmp_path / "history.jsonl").read_bytes()
    lines = content.splitlines(keepends=True)
    for cut in range(1, len(lines) + 1):
        (tmp_path / "history.jsonl").write_bytes(b"".join(lines[:cut]))
        with History(tmp_path, IDENTITY) as history:
            evaluate, _ = raced(history)
            assert [evaluate(batch) for batch in batches] == whole
        assert (tmp_path / "history.jsonl").read_bytes() == content


def test_impossible_races_are_refused() -> None:
    for images, keep in ((0, 0.5), (64, 0.0), (64, 1.0)):
        with pytest.raises(ValueError, match="a race needs"):
            Race(Objective(SPACE, 0), images, keep)
    with pytest.raises(ValueError, match="on 0 images"):
        replace(trial(0), images=0)


def test_a_history_of_version_1_is_continued_but_not_raced_in(tmp_path: Path) -> None:
    trials = write(tmp_path, 2)
    path = tmp_path / "history.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"version":2', b'"version":1'))
    with History(tmp_path, IDENTITY) as history:
        assert history.trials == trials
        history.append(trial(2))
        with pytest.raises(RunFolderError, match="older program"):
            history.append(replace(trial(3), images=64))
    assert len(read(tmp_path)) == 3
    assert b'"version":1' in path.read_bytes()
    # A trial of a race in such a file was not written by us.
    write(tmp_path / "other", 1)
    later = tmp_path / "other" / "history.jsonl"
    with History(tmp_path / "other", IDENTITY) as history:
        history.append(replace(trial(1), images=64))
    later.write_bytes(later.read_bytes().replace(b'"version":2', b'"version":1'))
    with pytest.raises(RunFolderError, match="damaged in line 3"):
        read(tmp_path / "other")


def test_networks_are_scored_several_at_a_time_in_the_order_of_the_batch(tmp_path: Path) -> None:
    with (
        ThreadPoolExecutor(3) as pool,
        History(tmp_path / "many", IDENTITY) as history,
    ):
        many = Evaluator(SPACE, Objective(SPACE, 0), MACS, history, map=pool.map)(SOME)
    with History(tmp_path / "one", IDENTITY) as history:
        assert Evaluator(SPACE, Objective(SPACE, 0), MACS, history)(SOME) == many
    one, other = (tmp_path / name / "history.jsonl" for name in ("one", "many"))
    assert one.read_bytes() == other.read_bytes()
