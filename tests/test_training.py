"""Training: what it learns, that a resumed run ends with the same bits, and damaged checkpoints."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from boardfit.devices.errors import DataError, RunFolderError
from boardfit.profiler.progress import Progress, Report, silent
from boardfit.search.data import Dataset, open_dataset
from boardfit.search.mobilenetv3 import open_space
from boardfit.search.network_module import NetworkModule
from boardfit.search.scoring import evaluate, evaluate_on_batch_statistics
from boardfit.search.supernet import SuperNetwork
from boardfit.search.training import (
    Recipe,
    read_checkpoint,
    train_network,
    train_supernet,
)
from boardfit.search.widths import OrderedDropout

SPACE = open_space("mobilenetv3-32", width_factor=0.2)
RECIPE = Recipe(steps=14, batch_size=16)
Train = Callable[[Path | None, Report], torch.nn.Module]


class Stopped(Exception):
    """Stands for a process that was killed."""


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    # 100 images are 6 batches of 16: fourteen steps end in the third epoch.
    return open_dataset("shapes:100", input_shape=SPACE.input_shape, classes=12, seed=0)


def alone(dataset: Dataset) -> Train:
    def train(checkpoint: Path | None, report: Report) -> torch.nn.Module:
        module = NetworkModule(SPACE.network(SPACE.full), torch.Generator().manual_seed(3))
        train_network(module, dataset, RECIPE, seed=5, checkpoint=checkpoint, report=report)
        return module

    return train


def together(dataset: Dataset) -> Train:
    def train(checkpoint: Path | None, report: Report) -> torch.nn.Module:
        module = SuperNetwork(SPACE, torch.Generator().manual_seed(3))
        rng = np.random.default_rng(4)
        train_supernet(
            module,
            OrderedDropout(SPACE, rng),
            dataset,
            RECIPE,
            rng,
            seed=5,
            checkpoint=checkpoint,
            report=report,
        )
        return module

    return train


@pytest.mark.parametrize("make", [alone, together], ids=["network", "super-network"])
def test_a_resumed_run_ends_with_the_same_bits(
    make: Callable[[Dataset], Train],
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("boardfit.search.training.CHECKPOINT_SECONDS", 0.0)
    train = make(dataset)
    expected = train(None, silent).state_dict()
    checkpoint = tmp_path / "training.pt"
    steps: list[float] = []
    for stop in (1, 5, 6, 7, 12):  # within an epoch, at its end, and just behind it

        def report(progress: Progress, stop: int = stop) -> None:
            steps.append(progress.done)
            if progress.done > stop:
                raise Stopped

        with pytest.raises(Stopped):
            train(checkpoint, report)
    resumed = train(checkpoint, lambda progress: steps.append(progress.done)).state_dict()
    assert all(torch.equal(resumed[name], value) for name, value in expected.items())
    # Each kill lost the one step that was not in the checkpoint yet, and no more.
    assert len(steps) == RECIPE.steps + 5


def test_a_finished_run_is_not_trained_again(dataset: Dataset, tmp_path: Path) -> None:
    train = alone(dataset)
    checkpoint = tmp_path / "training.pt"
    first = train(checkpoint, silent).state_dict()
    steps: list[float] = []
    again = train(checkpoint, lambda progress: steps.append(progress.done)).state_dict()
    assert steps == []
    assert all(torch.equal(again[name], value) for name, value in first.items())


def test_other_settings_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    module = NetworkModule(SPACE.network(SPACE.full), torch.Generator().manual_seed(3))
    checkpoint = tmp_path / "training.pt"

    def train(rate: int) -> None:
        train_network(
            module, dataset, RECIPE, seed=5, checkpoint=checkpoint, identity={"rate": rate}
        )

    train(1)
    with pytest.raises(RunFolderError, match="begun with other settings"):
        train(2)


@pytest.mark.parametrize("keep", [0, 1, 100, 2000])
def test_a_damaged_checkpoint_is_named(keep: int, dataset: Dataset, tmp_path: Path) -> None:
    checkpoint = tmp_path / "training.pt"
    alone(dataset)(checkpoint, silent)
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(data[:keep])
    with pytest.raises(RunFolderError, match=r"training\.pt"):
        alone(dataset)(checkpoint, silent)


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"format": "boardfit checkpoint", "version": 1, "step": Evil()}, tmp_path / "x.pt")
    with pytest.raises(RunFolderError, match="not a checkpoint"):
        read_checkpoint(tmp_path / "x.pt")
    assert not (tmp_path / "executed").exists()


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "none.pt")


def test_a_loss_that_is_no_number_is_an_error(dataset: Dataset) -> None:
    module = NetworkModule(SPACE.network(SPACE.full), torch.Generator().manual_seed(3))
    with torch.no_grad():
        module.layer("head.classifier").weight.fill_(float("nan"))
    with pytest.raises(DataError, match="no longer a number"):
        train_network(module, dataset, RECIPE, seed=0)


def test_training_learns(dataset: Dataset) -> None:
    # A hundred images are learnt by heart within a few epochs; guessing is right once in twelve.
    module = NetworkModule(SPACE.network(SPACE.full), torch.Generator().manual_seed(3))
    before = evaluate_on_batch_statistics(module, dataset.train, dataset.task)
    train_network(module, dataset, Recipe(steps=150, batch_size=25), seed=5)
    after = evaluate(module, dataset.train, dataset.task)
    assert before.accuracy < 0.3
    assert after.accuracy > 0.5
    assert after.loss < before.loss


@given(steps=st.integers(1, 500), warmup=st.floats(0, 1))
def test_the_learning_rate_rises_then_falls_to_nothing(steps: int, warmup: float) -> None:
    recipe = Recipe(steps=steps, warmup=warmup)
    rates = [recipe.rate(step) for step in range(steps)]
    peak = int(np.argmax(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0 < max(rates) <= recipe.learning_rate * (1 + 1e-12)


def test_a_recipe_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Recipe(steps=0)
