"""What lasting load does to a model's latency: a curve over minutes, beside the cold number."""

from __future__ import annotations

import datetime
import math
import re
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..devices.base import Device
from ..devices.board_watch import watched
from ..devices.errors import InputError
from ..devices.occupy import occupied
from .board_record import BoardRecorder, causes_of
from .campaign import conditions_of
from .evidence import LEAST_DROP
from .one_run import Source
from .open_session import open_session
from .progress import Progress, Report, telling
from .store import SUSTAINED_RUN, Store
from .visits import Model, Visit

WINDOW_SECONDS = 1.0
WINDOW_SAMPLES = 200  # at most; short inferences are put together
TOLERANCE = 0.05  # a latency within it of the sustained one has settled
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """Seconds from `30s`, `10m` or `1h`. Raises `InputError`."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)\s*([smh])", text.strip(), flags=re.ASCII)
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 1 <= seconds <= 7 * 24 * 3600:
        raise InputError(f"{text!r} is no duration; write 30s, 10m or 1h (at least a second)")
    return seconds


@dataclass(frozen=True)
class SustainedLoad:
    """A model that ran without a pause: one value for each window of about a second.

    `at` is when the window began, from the beginning of the load; `median` and `minimum` are of its
    inferences, `frequency` (Hz) and `temperature` (degrees Celsius) were read after it (NaN where
    the board does not tell). `cold` is the median latency of the measurement before, `asked` how
    long the load was to last, `lasted` how long it did. Times in seconds. `slowed_by` is what the
    board said that slowed it.
    """

    asked: float
    cold: float
    lasted: float
    at: NDArray[np.float64]
    median: NDArray[np.float64]
    minimum: NDArray[np.float64]
    frequency: NDArray[np.float64]
    temperature: NDArray[np.float64]
    slowed_by: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether it lasted as long as was asked for."""
        return self.lasted >= self.asked

    @property
    def latency(self) -> float:
        """The sustained latency: the median of the windows of the last quarter."""
        return float(np.median(self.median[self.at >= 0.75 * self.at[-1]]))

    @property
    def ratio(self) -> float:
        """The sustained latency relative to the cold one."""
        return self.latency / self.cold

    @property
    def settled_after(self) -> float | None:
        """Seconds from which on the latency stays near the sustained one; None where it never
        does before the last quarter, or too little was seen.

        Windows are smoothed by the median of five, so that a short disturbance does not count.
        """
        if len(self.at) < 8:
            return None
        padded = np.pad(self.median, 2, mode="edge")
        smooth = np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1)
        away = np.flatnonzero(abs(smooth / self.latency - 1) > TOLERANCE)
        if not len(away):
            return 0.0
        after = float(self.at[min(away[-1] + 1, len(self.at) - 1)])
        return after if after < 0.75 * self.at[-1] else None

    @property
    def throttled(self) -> bool:
        """Whether the clock fell: the last quarter's against the highest that was read."""
        late = self.frequency[self.at >= 0.75 * self.at[-1]]
        if np.isnan(late).all():
            return False
        return bool(np.nanmedian(late) < (1 - LEAST_DROP) * np.nanmax(self.frequency))


def measure_sustained(
    store: Store,
    device: Device,
    key: str,
    source: Source,
    seconds: float,
    *,
    threads: int,
    runtime: str,
    dtype: str,
    report: Report,
) -> None:
    """Run one model for so long without a pause, and commit every window.

    A load that was interrupted cannot go on, since the board cools down meanwhile: a new curve is
    begun, the old one is kept. Where there is one that lasted long enough, nothing is done. Raises
    what the board, the worker or the disk raise.
    """
    if any(lasted >= seconds for lasted in _lasted(store).values()):
        return
    with (
        occupied(device, f"lasting load of {key}", tell=telling(report)) as lease,
        watched(device.transport) as watch,
        open_session(device, threads=threads, runtime=runtime) as session,
    ):
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        number = store.begin_session(SUSTAINED_RUN, now, conditions_of(device, session, dtype))
        session.load_one(Model(key, source.emit))
        recorder = BoardRecorder(watch)
        begin: float | None = None
        elapsed, repeats, samples = 0.0, 1, 1
        while elapsed < seconds:
            answers = list(session.measure([(key, repeats)], warmup=1, samples=samples))
            visit = next(answer for answer in answers if isinstance(answer, Visit))
            begin = visit.at if begin is None else begin
            values = np.array(visit.seconds)
            spent = sum(visit.warmup) + float(values.sum()) * visit.repeats
            elapsed = visit.at - begin + spent
            window = {
                "window": visit.at - begin,
                "lasted": elapsed,
                "median": float(np.median(values)),
                "minimum": float(values.min()),
                "inferences": len(visit.warmup) + len(values) * visit.repeats,
                **session.conditions(),
            }
            recorder.learn(window)
            seen = [window, *recorder.rows()]
            lease.check()
            store.commit([], session=number, run=SUSTAINED_RUN, round_number=0, evidence=seen)
            inferences = WINDOW_SECONDS / window["median"]
            most = min(WINDOW_SAMPLES, session.most_samples)
            repeats = max(1, math.ceil(inferences / most))
            samples = max(1, min(most, round(inferences / repeats)))
            report(Progress("sustained load", min(elapsed, seconds), seconds))


def read_sustained(store: Store, cold: float, asked: float) -> SustainedLoad | None:
    """The longest curve of a file; None where there is none. Raises ValueError, TypeError or
    KeyError where it is damaged."""
    lasted = _lasted(store)
    if not lasted:
        return None
    session = max(lasted, key=lambda number: (lasted[number], number))
    mine = [row for row in store.evidence() if row["session"] == session]
    rows = [row for row in mine if "window" in row]

    def column(name: str) -> NDArray[np.float64]:
        values = np.array([row.get(name, math.nan) for row in rows], float)
        if values.shape != (len(rows),):
            raise ValueError(f"{name} of a sustained load is no number")
        return values

    at, median, minimum = column("window"), column("median"), column("minimum")
    if not (np.isfinite(at).all() and (np.diff(at) >= 0).all() and at[0] >= 0):
        raise ValueError("the times of a sustained load are in no order")
    for values in (median, minimum):
        if not ((values > 0) & np.isfinite(values)).all():
            raise ValueError("a window of a sustained load took no time")
    frequency, temperature = column("frequency"), column("temperature")
    return SustainedLoad(
        asked,
        cold,
        lasted[session],
        at,
        median,
        minimum,
        frequency,
        temperature,
        causes_of(mine),
    )


def _lasted(store: Store) -> dict[int, float]:
    """How long the load of each session lasted, in seconds."""
    found: defaultdict[int, float] = defaultdict(float)
    for row in store.evidence():
        if "window" in row:
            lasted = float(row["lasted"])
            if not math.isfinite(lasted):
                raise ValueError(f"a load lasted {lasted} seconds")
            found[int(row["session"])] = max(lasted, found[int(row["session"])])
    return dict(found)
