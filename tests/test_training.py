"""Training: what it learns, that a resumed run ends with the same bits, and damaged checkpoints."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from boardfit.devices.errors import DataError, InputError, RunFolderError
from boardfit.profiler.progress import Progress, Report, silent
from boardfit.search.augmentation import Augmentation
from boardfit.search.checkpoint import read_checkpoint
from boardfit.search.compute import Compute
from boardfit.search.data import Dataset, open_dataset
from boardfit.search.network_module import NetworkModule
from boardfit.search.recipe import Recipe
from boardfit.search.scoring import evaluate, evaluate_on_batch_statistics, predict
from boardfit.search.spaces import open_space
from boardfit.search.supernet import SuperNetwork
from boardfit.search.training import train_network, train_supernet
from boardfit.search.widths import OrderedDropout

SPACE = open_space("mobilenetv3-32", width_factor=0.2)
RECIPE = Recipe(steps=14, batch_size=16)
RICH = replace(
    RECIPE, optimizer="rmsprop", learning_rate=0.002, accumulation=2, label_smoothing=0.1,
    average=0.9, clip_norm=0.0,
    augmentation=Augmentation(
        shift=2, crop=0.5, colour=0.2, cutout=0.3, mixup=0.2, cutmix=1.0
    ),
)  # fmt: skip
SHORT = replace(RECIPE, steps=2)
SGD = replace(RECIPE, optimizer="sgd", learning_rate=0.05)
EVERY_STEP = Compute(accelerator="cpu", checkpoint_seconds=0.0)
Train = Callable[[Path | None, Report], torch.nn.Module]


class Stopped(Exception):
    """Stands for a process that was killed."""


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    # 100 images are 6 batches of 16: fourteen steps end in the third epoch.
    return open_dataset("shapes:100", input_shape=SPACE.input_shape, classes=12, seed=0)


def alone(dataset: Dataset, recipe: Recipe = RECIPE) -> Train:
    def train(checkpoint: Path | None, report: Report) -> torch.nn.Module:
        module = NetworkModule(SPACE.network(SPACE.full), torch.Generator().manual_seed(3))
        train_network(
            module, dataset, recipe, seed=5, checkpoint=checkpoint, compute=EVERY_STEP,
            report=report,
        )  # fmt: skip
        return module

    return train


def together(dataset: Dataset, recipe: Recipe = RECIPE) -> Train:
    def train(checkpoint: Path | None, report: Report) -> torch.nn.Module:
        module = SuperNetwork(SPACE, torch.Generator().manual_seed(3))
        rng = np.random.default_rng(4)
        train_supernet(
            module, OrderedDropout(SPACE, rng), dataset, recipe, rng, seed=5,
            checkpoint=checkpoint, compute=EVERY_STEP, report=report,
        )  # fmt: skip
        return module

    return train


@pytest.mark.parametrize(
    ("make", "recipe"),
    [(alone, RECIPE), (alone, RICH), (together, RICH), (together, SGD)],
    ids=["network", "network, all on", "super-network, all on", "super-network"],
)
def test_a_resumed_run_ends_with_the_same_bits(
    make: Callable[[Dataset, Recipe], Train], recipe: Recipe, dataset: Dataset, tmp_path: Path
) -> None:
    train = make(dataset, recipe)
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
    train = alone(dataset, replace(RICH, steps=2))
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
            module, dataset, SHORT, seed=5, checkpoint=checkpoint, identity={"rate": rate}
        )

    train(1)
    with pytest.raises(RunFolderError, match=r"begun with other settings \(rate\)"):
        train(2)


@pytest.mark.parametrize(
    ("seed", "recipe", "words"),
    [(6, SHORT, "seed"), (5, replace(SHORT, learning_rate=0.1), "recipe")],
)
def test_another_seed_or_recipe_is_another_run(
    seed: int, recipe: Recipe, words: str, dataset: Dataset, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "training.pt"
    alone(dataset, SHORT)(checkpoint, silent)
    module = NetworkModule(SPACE.network(SPACE.full), torch.Generator().manual_seed(3))
    with pytest.raises(RunFolderError, match=rf"begun with other settings \({words}\)"):
        train_network(module, dataset, recipe, seed=seed, checkpoint=checkpoint)


def test_another_version_is_named(dataset: Dataset, tmp_path: Path) -> None:
    checkpoint = tmp_path / "training.pt"
    alone(dataset, SHORT)(checkpoint, silent)
    content = read_checkpoint(checkpoint)
    torch.save({**content, "version": 1}, checkpoint)
    with pytest.raises(RunFolderError, match="version 1, this program reads version 2"):
        read_checkpoint(checkpoint)


@pytest.mark.parametrize("keep", [0, 1, 100, 2000])
def test_a_damaged_checkpoint_is_named(keep: int, dataset: Dataset, tmp_path: Path) -> None:
    checkpoint = tmp_path / "training.pt"
    alone(dataset, SHORT)(checkpoint, silent)
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(data[:keep])
    with pytest.raises(RunFolderError, match=r"training\.pt"):
        alone(dataset, SHORT)(checkpoint, silent)


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


def test_parts_of_a_batch_add_up_to_its_gradient(dataset: Dataset) -> None:
    """Without batch normalisation's part in it, since parts have statistics of their own."""

    def weights(accumulation: int) -> torch.Tensor:
        module = NetworkModule(SPACE.network(SPACE.full), torch.Generator().manual_seed(3))
        for name in module.names:
            module.layer(name).norm = None
        recipe = Recipe(
            steps=1, batch_size=16, optimizer="sgd", momentum=0.0, accumulation=accumulation
        )
        train_network(module, dataset, recipe, seed=5)
        return module.layer("head.classifier").weight.detach()

    torch.testing.assert_close(weights(4), weights(1), rtol=1e-4, atol=1e-6)


def test_a_network_learns_from_its_teacher(dataset: Dataset) -> None:
    """With nothing but the teacher's answers to go by, the pupil gives them."""
    teacher = NetworkModule(SPACE.network(SPACE.full), torch.Generator().manual_seed(7))
    evaluate_on_batch_statistics(teacher, dataset.train, dataset.task)  # running statistics
    pupil = NetworkModule(SPACE.network(SPACE.full), torch.Generator().manual_seed(3))
    before = distance(pupil, teacher, dataset)
    recipe = Recipe(steps=20, batch_size=25, distillation=1.0)
    train_network(pupil, dataset, recipe, seed=5, teacher=teacher)
    assert distance(pupil, teacher, dataset) < 0.5 * before


def distance(pupil: NetworkModule, teacher: NetworkModule, dataset: Dataset) -> float:
    outputs = [predict(module.eval(), dataset.train) for module in (pupil, teacher)]
    return float(dataset.task.imitation(*outputs).mean())


def test_a_teacher_belongs_to_a_final_training_with_a_share_of_the_loss(dataset: Dataset) -> None:
    module = NetworkModule(SPACE.network(SPACE.full), torch.Generator().manual_seed(3))
    with pytest.raises(InputError, match="needs a teacher"):
        train_network(module, dataset, replace(RECIPE, distillation=0.5), seed=0)
    with pytest.raises(InputError, match="a share of the loss"):
        train_network(module, dataset, RECIPE, seed=0, teacher=module)
    for wrong in (replace(RECIPE, distillation=0.5), replace(RECIPE, inherit=True)):
        with pytest.raises(InputError, match="leave distillation and inherit to the final recipe"):
            together(dataset, wrong)(None, silent)


def test_bfloat16_trains_float32_weights_to_nearly_the_same(dataset: Dataset) -> None:
    recipe = replace(RECIPE, learning_rate=1e-3)
    exact = together(dataset, recipe)(None, silent).state_dict()
    half = together(dataset, replace(recipe, precision="bfloat16"))(None, silent).state_dict()
    for name, value in exact.items():
        assert half[name].dtype == value.dtype
    weight = "full.layers.head/classifier.weight"
    assert not torch.equal(half[weight], exact[weight])
    torch.testing.assert_close(half[weight], exact[weight], rtol=0.0, atol=0.02)


def test_training_learns(dataset: Dataset) -> None:
    # A hundred images are learnt by heart within a few epochs; guessing is right once in twelve.
    module = NetworkModule(SPACE.network(SPACE.full), torch.Generator().manual_seed(3))
    before = evaluate_on_batch_statistics(module, dataset.train, dataset.task)
    train_network(module, dataset, Recipe(steps=150, batch_size=25), seed=5)
    after = evaluate(module, dataset.train, dataset.task)
    assert before.accuracy < 0.3
    assert after.accuracy > 0.5
    assert after.loss < before.loss
