"""What an inference costs in joules, where the board has a power meter (INA3221: Jetsons).

    rails = find_rails(transport)
    with sampled(transport, input_rails(rails), workspace) as meter:
        begin = uptime(transport); ...; end = uptime(transport)
    energy = joules_per_inference(between(meter.readings, begin, end), idle, inferences=500, ...)

The meter is slow (a reading takes the chip some milliseconds, and averages over them) and coarse
(some 40 mW on an Orin Nano), so an inference is not measured alone but many in a row, and what an
idle board takes is subtracted. Where that is not enough the result says so.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from .base import LINE_LIMIT, Transport
from .board_files import first_lines, number
from .errors import CommandFailed, DeviceError, DeviceLost, MeasurementError

SCRIPT = Path(__file__).with_name("sample_power.sh")
_TIMEOUT = 20.0  # seconds
_BLOCKS = 10  # readings that follow each other resemble each other; means of ten blocks hardly do
_STUDENT_T = (
    2.262  # 97.5 % with nine degrees of freedom; two lots of ten blocks have more: cautious
)
_SHUNT_STEP = 40e-6  # V, the least step of an INA3221's current (datasheet, section 8.6.2)
_WHOLE = re.compile(r"VDD_IN|POM_5V_IN|VIN|5V_IN", re.IGNORECASE)  # what the whole board takes
_MOST_LINES = 1_000_000


@dataclass(frozen=True)
class Rail:
    """One supply that is metered: the files for its power (mW), or voltage (mV) and current (mA).

    `step` is the least difference in watts that the meter can show, `interval` the seconds in which
    it makes a new reading; `None` where the board does not tell.
    """

    name: str
    files: tuple[str, ...]
    step: float | None = None
    interval: float | None = None


@dataclass(frozen=True)
class Reading:
    """The power in watts that the meter showed at an uptime of the board, in seconds."""

    at: float
    watts: float


@dataclass(frozen=True)
class Energy:
    """What one inference costs beyond an idle board, in joules, with a 95 % interval.

    `busy` and `idle` are mean powers in watts. `problem` says in words why the meter is too coarse
    for it (`None`: it is not).
    """

    joules: float
    low: float
    high: float
    busy: float
    idle: float
    problem: str | None = None


@dataclass
class Meter:
    """A meter that is read while a block runs; `readings` are there once the block was left."""

    readings: tuple[Reading, ...] = field(default=())


def find_rails(transport: Transport, *, root: str = "") -> tuple[Rail, ...]:
    """The supplies that the board meters; empty where it has no INA3221, or hides it."""
    hwmon, iio = f"{root}/sys/class/hwmon/hwmon[0-9]*", f"{root}/sys/bus/i2c/drivers/ina3221x/*"
    names = (
        *("name", "in[123]_label", "in[123]_input", "curr[123]_input"),
        *("shunt[123]_resistor", "update_interval"),
    )
    old = ("rail_name_[012]", "in_power[012]_input")
    return rails_of(
        first_lines(
            transport,
            *(f"{hwmon}/{name}" for name in names),
            # `iio:device0`, and `iio_device` in the documentation of some boards
            *(f"{iio}/iio[:_]device*/{name}" for name in old),
        )
    )


def rails_of(files: Mapping[str, str]) -> tuple[Rail, ...]:
    """The rails in files of /sys by their path: hwmon's (JetPack 5 and later) and iio's (4)."""
    found: dict[str, Rail] = {}
    for path, label in files.items():
        folder, _, name = path.rpartition("/")
        if (channel := re.fullmatch(r"in([123])_label", name)) and _is_name(label):
            if files.get(f"{folder}/name") != "ina3221":
                continue
            parts = (f"{folder}/in{channel[1]}_input", f"{folder}/curr{channel[1]}_input")
            volts, amperes = (number(files.get(part)) for part in parts)
            if volts is None or amperes is None:
                continue
            shunt = number(files.get(f"{folder}/shunt{channel[1]}_resistor"))  # micro-ohms
            pause = number(files.get(f"{folder}/update_interval"))  # ms
            found.setdefault(
                label,
                Rail(
                    label,
                    parts,
                    step=_SHUNT_STEP / (shunt * 1e-6) * volts * 1e-3 if shunt else None,
                    interval=pause * 1e-3 if pause else None,
                ),
            )
        elif (channel := re.fullmatch(r"rail_name_([012])", name)) and _is_name(label):
            power = f"{folder}/in_power{channel[1]}_input"
            if number(files.get(power)) is not None:
                found.setdefault(label, Rail(label, (power,)))
    return tuple(found.values())


def input_rails(rails: Sequence[Rail]) -> tuple[Rail, ...]:
    """The rails that together are what the board takes: its input's, or else all of them.

    Where the input is metered the others are parts of it, and would be counted twice.
    """
    whole = [rail for rail in rails if _WHOLE.fullmatch(rail.name)]
    return tuple(whole[:1] or rails)


@contextlib.contextmanager
def sampled(
    transport: Transport,
    rails: Sequence[Rail],
    workspace: PurePosixPath,
    *,
    pause: float = 0.05,
    at_most: float = 3600.0,
    root: str = "",
) -> Iterator[Meter]:
    """Read the meter on the board every `pause` seconds while the block runs.

    It is read by a script there (3 % of a core of an x86-64 server at the default pause), which
    ends after `at_most` seconds also where we are gone. Raises `MeasurementError` where there is no
    meter or it could not be read, and what the transport raises.
    """
    if not rails:
        raise MeasurementError(
            "the board shows no power meter (an INA3221, as Jetsons have); go without energy"
        )
    if not (0.001 <= pause <= 60 and 0 < at_most / pause <= _MOST_LINES):
        raise ValueError(f"a meter cannot be read every {pause} s for {at_most} s")
    out, script = workspace / "power.txt", workspace / "sample_power.sh"
    transport.push(SCRIPT, script)
    files = [file for rail in rails for file in rail.files]
    count = math.ceil(at_most / pause)
    arguments = [str(out), root, f"{pause:g}", str(count), *files]
    channel = transport.open(["sh", str(script), *arguments])
    meter = Meter()
    try:
        if channel.receive(timeout=_TIMEOUT) != b"started":
            raise MeasurementError("the script that reads the meter did not start on the board")
        yield meter
        transport.run(["touch", f"{out}.stop"], timeout=_TIMEOUT).check()
        with contextlib.suppress(DeviceLost):  # it ends behind its last line
            channel.receive(timeout=_TIMEOUT + pause)
    except BaseException:
        # Closing a channel does not end what writes to a file, on every kind of link.
        with contextlib.suppress(DeviceError):
            transport.run(["touch", f"{out}.stop"], timeout=_TIMEOUT)
        raise
    finally:
        channel.close()
    meter.readings = _pulled(transport, out, rails)


def _pulled(transport: Transport, out: PurePosixPath, rails: Sequence[Rail]) -> tuple[Reading, ...]:
    with tempfile.TemporaryDirectory(prefix="boardfit-") as folder:
        copy = Path(folder) / "power.txt"
        transport.pull(out, copy)
        with copy.open("rb") as file:
            text = file.read(LINE_LIMIT).decode(errors="replace")
    with contextlib.suppress(CommandFailed):
        transport.run(["rm", "-f", str(out), f"{out}.stop"], timeout=_TIMEOUT)
    readings = parse_readings(text, [len(rail.files) for rail in rails])
    if not readings:
        raise MeasurementError(
            f"the board's meter could not be read ({', '.join(rail.name for rail in rails)}); see "
            f"whether {rails[0].files[0]} can be read there"
        )
    return readings


def parse_readings(text: str, files: Sequence[int]) -> tuple[Reading, ...]:
    """The readings in a sampler's text; `files` is the number of files of each rail, 1 or 2.

    Lines that were cut off, and those in which a file could not be read, are left out.
    """
    found = []
    for line in text.splitlines():
        values = [number(word) for word in line.split(" ")]
        sound = [value for value in values if value is not None]
        if len(values) != 2 + sum(files) or len(sound) != len(values):
            continue
        begin, end, *rest = sound
        watts, place = 0.0, 0
        for size in files:
            part = rest[place : place + size]
            place += size
            watts += part[0] * 1e-3 if size == 1 else part[0] * part[1] * 1e-6
        if begin <= end:
            found.append(Reading((begin + end) / 2, watts))
    return tuple(found)


def uptime(transport: Transport, *, root: str = "") -> float:
    """The board's uptime in seconds, on the scale of the readings. Raises `MeasurementError`."""
    text = next(iter(first_lines(transport, f"{root}/proc/uptime").values()), "")
    seconds = number(text.split(" ")[0])
    if seconds is None:
        raise MeasurementError(
            "the board does not tell its uptime (/proc/uptime); go without energy"
        )
    return seconds


def between(readings: Sequence[Reading], begin: float, end: float) -> tuple[Reading, ...]:
    """The readings taken from `begin` to `end`, in seconds of the board's uptime."""
    return tuple(reading for reading in readings if begin <= reading.at <= end)


def joules_per_inference(
    busy: Sequence[Reading],
    idle: Sequence[Reading],
    *,
    inferences: int,
    seconds: float,
    step: float | None = None,
    interval: float | None = None,
) -> Energy:
    """What an inference costs beyond an idle board.

    `busy` are readings while `inferences` inferences ran without a pause for `seconds`, `idle`
    those of the same board without. `step` (watts) and `interval` (seconds) are the meter's own.
    The 95 % interval is Student's over the means of ten blocks of readings, since neighbours
    resemble each other; readings that stay on one step of the meter may all be off by half of it,
    which is added. Raises `MeasurementError` where there are not even two readings of a kind.
    """
    if inferences < 1 or not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"{inferences} inferences cannot take {seconds} s")
    lots = [[reading.watts for reading in lot] for lot in (busy, idle)]
    if min(map(len, lots)) < 2 or not all(math.isfinite(watts) for lot in lots for watts in lot):
        raise MeasurementError(
            f"the meter was read {len(busy)} times while the model ran and {len(idle)} times while "
            "the board was idle, which says nothing; run more inferences in a row"
        )
    (power, power_error), (rest, rest_error) = map(_mean_with_error, lots)
    watts = power - rest
    half = _STUDENT_T * math.hypot(power_error, rest_error)
    half += sum(step / 2 for lot in lots if step is not None and statistics.stdev(lot) < step / 2)
    each = seconds / inferences
    return Energy(
        joules=watts * each,
        low=(watts - half) * each,
        high=(watts + half) * each,
        busy=power,
        idle=rest,
        problem=_too_coarse(busy, idle, watts, half, step, interval),
    )


def _mean_with_error(watts: Sequence[float]) -> tuple[float, float]:
    """The mean, and its standard error from the means of blocks."""
    blocks = min(_BLOCKS, len(watts))
    edges = [round(block * len(watts) / blocks) for block in range(blocks + 1)]
    means = [statistics.fmean(watts[start:end]) for start, end in itertools.pairwise(edges)]
    return statistics.fmean(watts), statistics.stdev(means) / math.sqrt(blocks)


def _too_coarse(
    busy: Sequence[Reading],
    idle: Sequence[Reading],
    watts: float,
    half: float,
    step: float | None,
    interval: float | None,
) -> str | None:
    fewest = min(_independent(busy, interval), _independent(idle, interval))
    if fewest < 2 * _BLOCKS:
        return (
            f"too coarse: the meter made {fewest:.0f} readings in the time, and {2 * _BLOCKS} are "
            "needed; run more inferences in a row"
        )
    if step is not None and abs(watts) < step:
        return (
            f"too coarse: the model takes {watts * 1e3:.0f} mW more than an idle board, and the "
            f"meter's steps are {step * 1e3:.0f} mW; measure a larger model, or a faster clock"
        )
    if watts - half <= 0:
        return (
            f"too coarse: {watts * 1e3:.0f} mW more than an idle board cannot be told from its "
            f"fluctuations (± {half * 1e3:.0f} mW); end other work, run more inferences in a row"
        )
    return None


def _independent(readings: Sequence[Reading], interval: float | None) -> float:
    """How many readings the meter itself made, which is read more often than it measures."""
    span = readings[-1].at - readings[0].at
    return min(len(readings), span / interval + 1) if interval else len(readings)


def _is_name(label: str) -> bool:
    # A channel that is not connected is called NC, the sum of the three `sum of shunt voltages`.
    return re.fullmatch(r"[A-Za-z0-9_.+-]{1,40}", label) is not None and label != "NC"
