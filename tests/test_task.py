"""Tasks: what is compared for each image, against the textbook and PyTorch."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from boardfit.devices.errors import DataError
from boardfit.search.scoring import score
from boardfit.search.task import Classification

TASK = Classification(5)


def logits(seed: int, count: int = 7) -> torch.Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(seed))


def targets(seed: int, count: int = 7) -> torch.Tensor:
    return torch.randint(0, 5, (count,), generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 1000))
def test_a_score_is_the_mean_over_images(seed: int) -> None:
    outputs, wanted = logits(seed), targets(seed)
    found = score(TASK, outputs, wanted)
    right = sum(int(row.argmax()) == int(t) for row, t in zip(outputs, wanted, strict=True))
    assert found.accuracy == pytest.approx(right / 7)
    assert found.loss == pytest.approx(float(F.cross_entropy(outputs, wanted)), rel=1e-5)
    assert found.figures == {}


def test_smoothed_labels_are_spread_over_all_classes() -> None:
    outputs, wanted = logits(0), targets(0)
    spread = torch.full((7, 5), 0.1 / 5).scatter_add_(1, wanted[:, None], torch.full((7, 1), 0.9))
    expected = -(spread * outputs.log_softmax(1)).sum(1)
    torch.testing.assert_close(TASK.losses(outputs, wanted, smoothing=0.1), expected)


def test_imitation_is_zero_at_the_teacher_and_nowhere_below() -> None:
    teacher = logits(1)
    torch.testing.assert_close(TASK.imitation(teacher + 3.0, teacher), torch.zeros(7))
    assert (TASK.imitation(logits(2), teacher) > 0).all()


def test_imitation_is_the_divergence_of_softened_answers() -> None:
    """By hand for two classes: the teacher says 0.8 and the student 0.5 at temperature 2."""
    teacher = torch.tensor([[2 * math.log(4.0), 0.0]])
    expected = 4.0 * (0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5))
    found = Classification(2, temperature=2.0).imitation(torch.zeros(1, 2), teacher)
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (torch.tensor([0, 5]), "run from 0 to 5; with 5 classes"),
        (torch.tensor([-1, 2]), "run from -1 to 2"),
        (torch.tensor([0.0, 1.0]), "whole numbers, one an image"),
        (torch.zeros(2, 1, dtype=torch.int64), "whole numbers, one an image"),
    ],
)
def test_targets_that_are_no_classes_are_refused(wrong: torch.Tensor, words: str) -> None:
    with pytest.raises(DataError, match=words):
        TASK.check(wrong)
