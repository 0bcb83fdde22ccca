"""Which operators behave alike: those that differ in nothing but how many channels they have.

A family is run by one kernel of the runtime, on one image size. Within it time follows the
channels, smoothly but for steps (kernels work on vectors of channels). Between families it does
not: a 7x7 depthwise convolution can run by another algorithm than a 5x5 one, and take twelve times
as long. So operators are interpolated within a family, and never pooled across.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .layers import Layer, Shape, shape_text

PERIOD = 32  # channels; the widths of vector kernels divide it
ALIASING = 256  # channels; float rows that are a multiple of 1 KiB apart compete for cache lines


@dataclass(frozen=True)
class Family:
    """What operators have in common that may be interpolated between: all but their channels."""

    name: str
    dimensions: int


def family(layer: Layer) -> Family:
    """The family of an operator, e.g. `conv_2d 10x10>10x10 k1 s1 relu float32`."""
    inputs = "+".join(_space(shape) for shape in layer.inputs)
    name = (
        f"{layer.op} {inputs}>{_space(layer.output)} k{layer.kernel} s{layer.stride} "
        f"{layer.activation} {layer.dtype}"
    )
    return Family(name, len(channels(layer)))


def channels(layer: Layer) -> tuple[int, ...]:
    """The channels that tell an operator from the others of its family: those that come in (of
    each input of a concatenation), and those that go out where the former do not decide them."""
    if layer.op == "concatenation":
        return tuple(shape[-1] for shape in layer.inputs)
    if layer.op in ("conv_2d", "fully_connected", "pad", "slice"):
        return layer.inputs[0][-1], layer.output[-1]
    return (layer.output[-1],)


def step_class(count: int) -> int:
    """Where a number of channels stands among the steps: numbers of one class differ by whole
    vectors, so that the steps between classes repeat. Aliasing numbers are a class of their own."""
    return -1 if count % ALIASING == 0 else count % PERIOD


def by_family(layers: Iterable[Layer]) -> dict[Family, list[Layer]]:
    """Layers in groups that may be interpolated between, in the order of their first members."""
    groups: dict[Family, list[Layer]] = {}
    for layer in layers:
        groups.setdefault(family(layer), []).append(layer)
    return groups


def _space(shape: Shape) -> str:
    return shape_text(shape[:-1]) or "vector"
