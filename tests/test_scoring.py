"""How images are batched where batch statistics count."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from boardfit.search.data import open_dataset
from boardfit.search.examples import first
from boardfit.search.scoring import evaluate_on_batch_statistics


class BatchSizes(nn.Module):
    """Notes how many images come at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        return torch.zeros(len(x), 12)


@pytest.mark.parametrize(
    ("images", "sizes"), [(40, [40]), (500, [500]), (512, [256, 256]), (1030, [344, 344, 342])]
)
def test_no_image_is_normalised_by_the_statistics_of_a_few(images: int, sizes: list[int]) -> None:
    data = open_dataset("shapes:1030", input_shape=(16, 16, 3), seed=0)
    module = BatchSizes()
    evaluate_on_batch_statistics(module, first(data.train, images), data.task)
    assert module.sizes == sizes
