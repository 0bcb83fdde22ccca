"""What an inference of a model costs in joules, where the board has a power meter.

The model runs without a pause for several seconds, between two rests of the board with the same
processes loaded; what the rests take is subtracted (see `devices/energy.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..devices.base import Device
from ..devices.energy import (
    Energy,
    Rail,
    Reading,
    between,
    find_rails,
    input_rails,
    joules_per_inference,
    sampled,
    uptime,
)
from ..devices.errors import MeasurementError, WorkerError
from ..devices.occupy import occupied
from .open_session import open_session
from .visits import Model, Round, Visit

BUSY_SECONDS, REST_SECONDS = 6.0, 3.0  # that the model runs, and that the board rests, at least
_READINGS = 30  # of the meter that each lot holds where it is slow
_SETTLE = 0.2  # seconds after a change in which a meter still shows what was before, at least
_MOST_SECONDS = 600.0  # for all of it


@dataclass(frozen=True)
class ModelEnergy:
    """What an inference costs beyond a resting board: `energy`, read from the supplies `rails`
    while `inferences` inferences took `seconds`."""

    energy: Energy
    rails: tuple[str, ...]
    inferences: int
    seconds: float

    def content(self) -> dict[str, Any]:
        """It as a JSON object; `read_energy` is the inverse."""
        return asdict(self)


def read_energy(content: Mapping[str, Any] | None) -> ModelEnergy | None:
    """The inverse of `ModelEnergy.content`. Raises ValueError, TypeError or KeyError where it is
    damaged."""
    if content is None:
        return None
    said = content["energy"]
    values = [float(said[name]) for name in ("joules", "low", "high", "busy", "idle")]
    seconds, inferences = float(content["seconds"]), int(content["inferences"])
    if not all(map(math.isfinite, [*values, seconds])) or inferences < 1 or seconds <= 0:
        raise ValueError("an energy is no number")
    problem = None if said["problem"] is None else str(said["problem"])[:500]
    rails = tuple(str(name)[:40] for name in content["rails"])
    joules, low, high, busy, idle = values
    return ModelEnergy(Energy(joules, low, high, busy, idle, problem), rails, inferences, seconds)


def measure_energy(
    device: Device,
    model: Model,
    seconds: float,
    *,
    threads: int,
    runtime: str,
    root: str = "",
    tell: Callable[[str], None],
) -> ModelEnergy | None:
    """What an inference of `model`, which takes so many seconds, costs; None where the board has no
    meter.

    Raises `MeasurementError` where the meter cannot be read or says too little, and what the board
    and the worker raise. `root` is in front of the board's /sys and /proc.
    """
    rails = input_rails(find_rails(device.transport, root=root))
    if not rails:
        return None
    slowest = max((rail.interval or 0.0 for rail in rails), default=0.0)
    busy_seconds = max(BUSY_SECONDS, _READINGS * slowest)
    rest = max(REST_SECONDS, _READINGS / 2 * slowest)
    if busy_seconds + 2 * rest > _MOST_SECONDS / 2:
        raise MeasurementError(
            f"the board's meter makes one reading in {slowest:g} s, which takes too long; go "
            "without energy"
        )
    with (
        occupied(device, f"the energy of {model.key}", tell=tell),
        open_session(device, threads=threads, runtime=runtime) as session,
    ):
        session.load_one(model)
        windows = []

        def take_a_rest() -> None:
            begin = uptime(device.transport, root=root)
            device.transport.run(["sleep", f"{rest:g}"], timeout=rest + 30).check()
            windows.append((begin, uptime(device.transport, root=root)))

        with sampled(
            device.transport, rails, device.workspace, at_most=_MOST_SECONDS, root=root
        ) as meter:
            take_a_rest()
            repeats = max(1, math.ceil(busy_seconds / seconds))
            visit, end = session.measure([(model.key, repeats)], warmup=1, samples=1)
            take_a_rest()
        if not isinstance(visit, Visit) or not isinstance(end, Round):
            raise WorkerError("a visit and the end of its round were expected")
        inferences = visit.repeats * len(visit.seconds)
        lasted = math.fsum(visit.seconds) * visit.repeats
        if "uptime" not in end.conditions:
            raise MeasurementError(
                "the worker does not tell the board's uptime; go without energy on this board"
            )
        over = end.conditions["uptime"]
    settle = max(_SETTLE, slowest)
    resting = [_lot(meter.readings, *window, settle) for window in windows]
    energy = joules_per_inference(
        _lot(meter.readings, over - lasted, over, settle),
        [reading for lot in resting for reading in lot],
        inferences=inferences,
        seconds=lasted,
        step=_step(rails),
        interval=slowest or None,
    )
    return ModelEnergy(energy, tuple(rail.name for rail in rails), inferences, lasted)


def _lot(
    readings: Sequence[Reading], begin: float, end: float, settle: float
) -> tuple[Reading, ...]:
    return between(readings, begin + settle, end)


def _step(rails: Sequence[Rail]) -> float | None:
    """The least difference that the sum of the supplies can show, in watts."""
    steps = [rail.step for rail in rails if rail.step is not None]
    return max(steps) if steps else None


def energy_text(joules: float) -> str:
    """An energy as people read it: `1.23 J`, `12.3 mJ` or `456 uJ`."""
    for scale, unit in ((1.0, "J"), (1e-3, "mJ")):
        if abs(joules) >= 0.9995 * scale:
            return f"{joules / scale:.3g} {unit}"
    return f"{joules * 1e6:.3g} uJ"
