"""Several layers in a row that were priced together, and how a network is put together from them.

Some runtimes fuse a block into one kernel, and some tables were measured block by block: then the
price of a layer alone does not exist. A network is priced by the longest fragment that begins at
each of its layers, and by single operators where none does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..devices.errors import TableFileError
from .description import describe_layer, read_layer
from .layers import Layer

ROLE = "fragment"  # of such entries in a table's file
LONGEST = 64  # layers in a fragment; a block has about a dozen


@dataclass(frozen=True)
class Fragment:
    """Layers in the order in which they run. Raises ValueError for none, or very many."""

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.layers) <= LONGEST:
            raise ValueError(f"a fragment has 1 to {LONGEST} layers, not {len(self.layers)}")

    @cached_property
    def signature(self) -> str:
        """The key of a lookup table: the signatures of the layers, one after the other."""
        return " | ".join(layer.signature for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations of one inference."""
        return sum(layer.macs for layer in self.layers)


@dataclass(frozen=True)
class PricedFragment:
    """A fragment of a table, and its smallest sample of each run in seconds."""

    fragment: Fragment
    runs: NDArray[np.float64]


def describe_fragment(fragment: Fragment) -> dict[str, Any]:
    """A fragment as a JSON object; `read_fragment` is the inverse."""
    return {"layers": [describe_layer(layer) for layer in fragment.layers]}


def read_fragment(content: Mapping[str, Any]) -> Fragment:
    """The fragment that a JSON object describes. Raises `TableFileError` where there is none."""
    try:
        return Fragment(tuple(read_layer(layer) for layer in content["layers"]))
    except (KeyError, TypeError, ValueError) as error:
        raise TableFileError(f"a fragment in the table cannot be read ({error!r})") from error


class PriceList:
    """What layers in a row cost: fragments as far as they go, single operators between them.

    `single` prices one layer (and raises `MissingEntry`); it is asked once for each different
    layer. `fragments` maps fragments to seconds.
    """

    def __init__(
        self, single: Callable[[Layer], float], fragments: Mapping[Fragment, float]
    ) -> None:
        self._single = cache(single)
        # By the signature of the first layer, the longest fragment first.
        self._fragments: dict[str, list[tuple[tuple[str, ...], float]]] = {}
        for fragment, seconds in fragments.items():
            signatures = tuple(layer.signature for layer in fragment.layers)
            self._fragments.setdefault(signatures[0], []).append((signatures, seconds))
        for found in self._fragments.values():
            found.sort(key=lambda item: -len(item[0]))

    def __call__(self, layers: Sequence[Layer]) -> float:
        """Seconds of all layers together. Raises what `single` raises."""
        if not self._fragments:
            return sum(map(self._single, layers))
        fragments, rest = self.split(layers)
        return sum(fragments) + sum(map(self._single, rest))

    def split(self, layers: Sequence[Layer]) -> tuple[list[float], Sequence[Layer]]:
        """The seconds of the fragments that layers in a row hold, and the layers in none."""
        if not self._fragments:
            return [], layers
        signatures = tuple(layer.signature for layer in layers)
        found: list[float] = []
        rest: list[Layer] = []
        position = 0
        while position < len(layers):
            for wanted, seconds in self._fragments.get(signatures[position], ()):
                if signatures[position : position + len(wanted)] == wanted:
                    found.append(seconds)
                    position += len(wanted)
                    break
            else:
                rest.append(layers[position])
                position += 1
        return found, rest
