"""What the layers of a network lose to each other: the more it moves, the less is still cached.

Between two uses of a weight everything else that the network moves passes through the caches.
Where all of it stays within a cache nothing is lost; beyond, each byte comes from the next larger
one, or from memory (the reuse distance of stack-distance models: Mattson et al., Evaluation
techniques for storage hierarchies, 1970). Nobody has to name a board's caches: the fit is given
their possible sizes, and finds what a byte beyond each of them costs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .layers import Layer

# Bytes that caches may hold, from 1 to 45 MiB in steps of the square root of 2.
CACHES = tuple(2.0 ** (20 + step / 2) for step in range(12))
PER_PRODUCT = (0.0, 3e-18)  # prior; 20 GB/s for weights where 16 MB are moved
PER_BYTE_BEYOND = (0.0, 3e-12)  # prior; all twelve together reach 1/30 GB/s


@dataclass(frozen=True)
class Crowding:
    """Seconds that a network loses, from its bytes of weights and the bytes that it moves.

    It may gain, too: what was interpolated for large operators can be too much as a whole, and the
    fit sees that in the networks that move most.

    `per_product` is in seconds for each byte of weights and each byte moved, `per_byte_beyond` for
    each byte moved beyond each size of `CACHES`.
    """

    per_product: float = 0.0
    per_byte_beyond: tuple[float, ...] = (0.0,) * len(CACHES)

    def __post_init__(self) -> None:
        if len(self.per_byte_beyond) != len(CACHES):
            raise ValueError(f"crowding has {len(CACHES)} sizes of caches")

    def __call__(self, weights: float, moved: float) -> float:
        """Seconds that one network loses; less than 0 where it gains."""
        beyond = zip(CACHES, self.per_byte_beyond, strict=True)
        lost: float = sum(price * (moved - size) for size, price in beyond if moved > size)
        return self.per_product * weights * moved + lost

    def of_many(
        self, weights: NDArray[np.float64], moved: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Seconds that each network loses, float64 [n]."""
        seconds = self.per_product * weights * moved
        for size, price in zip(CACHES, self.per_byte_beyond, strict=True):
            seconds += price * np.maximum(0.0, moved - size)
        return seconds


NO_CROWDING = Crowding()


def footprint(layers: Iterable[Layer]) -> tuple[float, float]:
    """Bytes of weights, and bytes that are moved (weights and activations), of layers together."""
    weights = moved = 0
    for layer in layers:
        weights += layer.parameter_bytes
        moved += layer.bytes_moved
    return float(weights), float(moved)


def crowding_row(weights: float, moved: float) -> list[float]:
    """What each parameter of `Crowding`, in its order, is multiplied by for one network."""
    return [weights * moved, *(max(0.0, moved - size) for size in CACHES)]
