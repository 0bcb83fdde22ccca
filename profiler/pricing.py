"""What each operator takes alone: as measured, or interpolated within its family and flagged.

times = OperatorTimes(measured)
times.alone(layer)      # Alone(seconds=..., deviation=..., interpolated=True)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..devices.errors import MissingEntry
from .families import Family, by_family, channels, family
from .interpolation import Interpolator, Scales
from .layers import Layer

# An operator alone pays for an invocation. Without it time is nearly a power of the channels. The
# smallest operator of a table is hardly more than an invocation.
_INVOCATION = 0.8


@dataclass(frozen=True)
class Alone:
    """What an operator takes alone: seconds, their relative standard deviation (of another
    session's value), and whether it was interpolated."""

    seconds: float
    deviation: float
    interpolated: bool = False


class OperatorTimes:
    """The times of measured operators, and of those between them; immutable.

    `measured` gives each measured operator with its time. `scales` are those of an earlier object
    from the same measurements (`OperatorTimes.scales`), so that nothing is fitted again.
    """

    def __init__(
        self,
        measured: Iterable[tuple[Layer, Alone]],
        *,
        scales: Mapping[str, Scales] | None = None,
    ) -> None:
        layers = {layer.signature: (layer, alone) for layer, alone in measured}
        self._known = {signature: alone for signature, (_, alone) in layers.items()}
        self._invocation = _INVOCATION * min((a.seconds for a in self._known.values()), default=0.0)
        self._families = by_family(layer for layer, _ in layers.values())
        self._scales = dict(scales or {})
        self._models: dict[Family, Interpolator] = {}

    def alone(self, layer: Layer) -> Alone:
        """The time of one operator.

        Raises `MissingEntry` where neither it nor, of its family, operators with fewer and with
        more channels (input and output each) were measured: nothing is extrapolated.
        """
        found = self._known.get(layer.signature)
        if found is None:
            found = self._known[layer.signature] = self._interpolated(layer)
        return found

    def is_measured(self, layer: Layer) -> bool:
        """Whether the operator's own time is known."""
        found = self._known.get(layer.signature)
        return found is not None and not found.interpolated

    def model(self, group: Family) -> Interpolator | None:
        """The process that interpolates a family; None where nothing of it was measured."""
        if group not in self._models and group in self._families:
            self._models[group] = self._fitted(group)
        return self._models.get(group)

    def logs(self, seconds: float) -> float:
        """A time as interpolation sees it: without the invocation, on a logarithm."""
        return math.log(seconds - self._invocation)

    def scales(self) -> dict[str, Scales]:
        """The fitted scales of all families that can be interpolated, by name."""
        models = {group: self.model(group) for group in self._families}
        return {group.name: model.scales for group, model in models.items() if model is not None}

    def _fitted(self, group: Family) -> Interpolator:
        members = self._families[group]
        times = [self._known[layer.signature] for layer in members]
        # A relative deviation grows when a constant is taken away.
        noise = [t.deviation * t.seconds / (t.seconds - self._invocation) for t in times]
        return Interpolator(
            [channels(layer) for layer in members],
            [self.logs(time.seconds) for time in times],
            noise=np.array(noise),
            scales=self._scales.get(group.name),
        )

    def _interpolated(self, layer: Layer) -> Alone:
        model = self.model(family(layer))
        place = channels(layer)
        if model is None or not model.covers([place])[0]:
            raise MissingEntry(
                f"no price for {layer.signature!r}: "
                + (
                    "nothing like it was measured"
                    if model is None
                    else "it lies outside of what was measured, and nothing is extrapolated"
                )
            )
        middle, deviation = model.predict([place])
        beyond = math.exp(float(middle[0]))
        seconds = self._invocation + beyond
        return Alone(seconds, float(deviation[0]) * beyond / seconds, interpolated=True)


def describe_scales(scales: Mapping[str, Scales]) -> dict[str, Any]:
    """Scales as a JSON object; `read_scales` is the inverse."""
    return {name: asdict(found) for name, found in scales.items()}


def read_scales(content: Mapping[str, Any]) -> dict[str, Scales]:
    """The scales of a JSON object. Raises ValueError, TypeError, KeyError where there are none."""
    return {
        str(name): Scales(
            float(found["amplitude"]),
            tuple(float(length) for length in found["lengths"]),
            tuple(float(step) for step in found["steps"]),
            float(found["noise"]),
        )
        for name, found in content.items()
    }
