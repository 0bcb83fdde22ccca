"""Run a program on a board many times over one channel: for boards without our worker.

A small script for the board's shell reads a line for each run, runs the program, and writes what
it printed between two lines of its own, with the board's time. Runs are sent ahead, so that the
board never waits for us, and each arrives as it ends, so that a lost link loses only what had not
ended yet. Nothing that comes from a file or a user is part of the script.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..devices.base import Device
from ..devices.errors import (
    CommandFailed,
    DeviceLost,
    DeviceTimeout,
    WorkerError,
    WorkerLost,
)
from .verified_files import push_bytes
from .visits import Model, Round, Visit, VisitRequest

OUTPUT_LIMIT = 4 * 1024 * 1024  # bytes that one run may write
_AHEAD = 32  # runs that are sent before the first of them has ended
_START_TIMEOUT = 60.0  # seconds for the shell to begin, and for one small command
_GRACE = 30.0  # seconds beyond a run's limit in which the board ends it itself
_LATEST = 1e12  # seconds; no board has been up for so long
_PLAIN = re.compile(r"[A-Za-z0-9_=./:,+-]+")  # what an argument consists of; no shell changes it

# For dash, mksh and busybox alike: builtins only, but for `timeout`, `taskset`, `cat` and `rm`.
SCRIPT = """\
mark=$1 limit=$2 core=$3 pin=$4 folder=$5 program=$6
set -f
umask 077
mkdir -p "$folder" && cd "$folder" || exit 1
child= guard=
trap 'test -z "$child" || kill "$child" 2>/dev/null; exit 1' HUP INT TERM
if timeout --foreground 5 true 2>/dev/null; then guard="timeout --foreground -s KILL $limit"
elif timeout 5 true 2>/dev/null; then guard="timeout -s KILL $limit"
fi
echo "$mark ready"
while read -r what number file arguments; do
    at= load= frequency= temperature=
    { read -r at rest </proc/uptime; } 2>/dev/null
    case $what in
    run)
        echo "$mark begin $number $at"
        $guard $pin "$program" $arguments </dev/null 2>&1 &
        child=$!
        wait "$child"
        code=$?
        child=
        { read -r at rest </proc/uptime; } 2>/dev/null
        echo
        echo "$mark end $number $code $at"
        if [ "$file" != - ]; then
            cat "$file" 2>/dev/null
            rm -f "$file"
            echo
        fi
        { read -r at rest </proc/uptime; } 2>/dev/null
        echo "$mark done $number $at"
        ;;
    state)
        { read -r load rest </proc/loadavg; } 2>/dev/null
        { read -r frequency <"/sys/devices/system/cpu/cpu$core/cpufreq/scaling_cur_freq"; } \\
            2>/dev/null
        { read -r temperature </sys/class/thermal/thermal_zone0/temp; } 2>/dev/null
        echo "$mark state $number ${at:--} ${load:--} ${frequency:--} ${temperature:--}"
        ;;
    esac
done
"""


@dataclass(frozen=True)
class Run:
    """The arguments of one run; `file` is what it writes in its folder and we want to have."""

    arguments: tuple[str, ...]
    file: str | None = None

    def __post_init__(self) -> None:
        words = (*self.arguments, *([] if self.file is None else [self.file]))
        if not all(map(_PLAIN.fullmatch, words)):
            raise ValueError(f"{words} hold more than a shell leaves alone")


@dataclass(frozen=True)
class Ended:
    """A run that ended: the board's time at its beginning, the seconds that it took, its exit
    code, what it wrote, and the file that was asked for (empty where it made none)."""

    at: float
    seconds: float
    code: int
    output: str
    file: str


@dataclass(frozen=True)
class State:
    """The board's state at a moment, as `WorkerSession.conditions` gives it."""

    values: dict[str, float]


STATE = "state"  # asked for between runs
Request = Run | str


class ProgramDriver:
    """The script on a board, which runs one program in a folder; a context manager that ends it.

    `limit` is how many seconds a run may take; the board itself ends a longer one where it has
    `timeout`. `core` is the one to run on (None: left to the scheduler). Raises `WorkerError`
    where the board cannot pin, and what the transport raises.
    """

    def __init__(
        self,
        device: Device,
        program: PurePosixPath,
        folder: PurePosixPath,
        *,
        limit: float,
        core: int | None,
    ) -> None:
        self._device = device
        self._limit = math.ceil(limit)
        self._name = program.name
        self._mark = f"boardfit-{secrets.token_hex(8)}"
        self._began = math.inf  # the board's time at the first answer
        self._latest = -math.inf
        self._waited = 0.0
        self._idle_since: float | None = None
        self._words: deque[str] = deque(maxlen=5)  # that belong to no run
        pin = ""
        if core is not None:
            pin = f"taskset {1 << core:x}"  # toybox takes a mask only
            self._check_pinning(core, pin)
        digest = hashlib.sha256(SCRIPT.encode()).hexdigest()[:16]
        script = device.workspace / f"driver-{digest}.sh"
        push_bytes(device.transport, SCRIPT.encode(), script)
        self._channel = device.transport.open(
            [
                *("sh", str(script), self._mark, str(self._limit), str(core or 0), pin),
                *(str(folder), str(program)),
            ]
        )
        try:
            self._own_line("ready", time.monotonic() + _START_TIMEOUT)
        except BaseException:
            self._channel.close()
            raise

    def __enter__(self) -> ProgramDriver:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def close(self) -> None:
        """End the script and what it runs. Closing twice does nothing."""
        self._channel.close()

    def each(self, requests: Iterable[Request | None]) -> Iterator[Ended | State]:
        """Answer requests in their order, each answer as it comes; None where what to ask for next
        depends on answers that are to come.

        Raises `WorkerLost` where a run does not end, `WorkerError` where what comes cannot be,
        and `DeviceLost`.
        """
        waiting: deque[tuple[int, Request]] = deque()
        numbers = itertools.count()
        for request in requests:
            if request is None:
                if waiting:
                    yield self._answer(*waiting.popleft())
                continue
            number = next(numbers)
            waiting.append((number, request))
            with contextlib.suppress(DeviceLost):  # met again where its answer is awaited
                self._send(number, request)
            if len(waiting) == _AHEAD:
                yield self._answer(*waiting.popleft())
        while waiting:
            yield self._answer(*waiting.popleft())

    def one(self, run: Run) -> Ended:
        """A single run. Raises what `each` raises."""
        (ended,) = self.each([run])
        assert isinstance(ended, Ended)
        return ended

    def state(self) -> dict[str, float]:
        """The board's state just now. Raises what `each` raises."""
        (state,) = self.each([STATE])
        assert isinstance(state, State)
        return state.values

    def _send(self, number: int, request: Request) -> None:
        if isinstance(request, Run):
            line = f"run {number} {request.file or '-'} {' '.join(request.arguments)}"
        else:
            line = f"state {number} - -"
        self._channel.send(line.encode())

    def _answer(self, number: int, request: Request) -> Ended | State:
        deadline = time.monotonic() + self._limit + _GRACE
        if not isinstance(request, Run):
            return self._read_state(self._own_line(f"state {number}", deadline))
        begin = self._own_line(f"begin {number}", deadline)
        output, end = self._until(f"end {number}", deadline)
        file, done = self._until(f"done {number}", deadline)
        if (len(begin), len(end), len(done)) != (1, 2, 1):
            raise self._foreign(" ".join([*begin, *end, *done]))
        at, ended_at, done_at = self._time(begin[0]), self._time(end[1]), self._time(done[0])
        self._count_waiting(at, done_at)
        code = int(end[0]) if re.fullmatch(r"\d{1,3}", end[0], re.ASCII) else -1
        if not 0 <= code <= 255:
            raise self._foreign(f"the exit code {end[0]!r:.40}")
        if code in (124, 137) and ended_at - at >= self._limit - 1:
            raise WorkerLost(
                f"{self._name} on {self._device.name} had not ended after {self._limit} s and was "
                "killed; what was measured is kept: run the same command again to go on, and "
                "restart the board if that does not help"
            )
        return Ended(at, ended_at - at, code, output, file)

    def _until(self, what: str, deadline: float) -> tuple[str, list[str]]:
        """What was written before one of our own lines, and that line's words."""
        lines: list[str] = []
        size = 0
        while True:
            line = self._line(deadline)
            if (words := self._own_words(line, what)) is not None:
                # The script writes an empty line of its own before.
                return "\n".join(lines[:-1] if lines and not lines[-1] else lines), words
            lines.append(line)
            size += len(line) + 1
            if size > OUTPUT_LIMIT:
                self.close()
                raise WorkerError(
                    f"{self._name} on {self._device.name} wrote more than {OUTPUT_LIMIT} bytes in "
                    "one run and was ended; is it the program that it should be?"
                )

    def _own_line(self, what: str, deadline: float) -> list[str]:
        """The words of our own line that comes next; others before it are kept for errors."""
        for _ in range(1000):
            line = self._line(deadline)
            if (words := self._own_words(line, what)) is not None:
                return words
            self._words.append(line[:200])
        raise self._foreign("; ".join(self._words))

    def _own_words(self, line: str, what: str) -> list[str] | None:
        begin = f"{self._mark} {what}"
        if line == begin or line.startswith(begin + " "):
            return line[len(begin) :].split()
        if line.startswith(self._mark):  # another one than is due
            raise self._foreign(line)
        return None

    def _line(self, deadline: float) -> str:
        try:
            line = self._channel.receive(timeout=max(0.0, deadline - time.monotonic()))
        except DeviceTimeout:
            self.close()
            raise WorkerLost(
                f"{self._device.name} has not answered for {self._limit + _GRACE:.0f} s while it "
                f"ran {self._name}, and the run was ended; what was measured is kept: run the "
                "same command again to go on, and restart the board if that does not help"
            ) from None
        return line.decode(errors="replace").rstrip("\r")

    def _read_state(self, words: Sequence[str]) -> State:
        if len(words) != 4:
            raise self._foreign(" ".join(words))
        at = self._time(words[0])
        self._count_waiting(at, at)
        values = {"at": at, "uptime": at, "lived": at - self._began, "waited": self._waited}
        for name, text, scale in (
            ("load", words[1], 1.0),
            ("frequency", words[2], 1e3),  # the kernel counts kHz
            ("temperature", words[3], 1e-3),  # and thousandths of a degree
        ):
            if re.fullmatch(r"-?\d{1,12}(?:\.\d{1,6})?", text, re.ASCII):
                values[name] = float(text) * scale
        return State(values)

    def _count_waiting(self, begin: float, end: float) -> None:
        """Add the seconds in which the script had nothing to do before it began with something."""
        if self._idle_since is not None:
            self._waited += begin - self._idle_since
        self._idle_since = end

    def _time(self, text: str) -> float:
        """The board's clock. Raises `WorkerError` where it goes back, or is none."""
        if not re.fullmatch(r"\d{1,12}(?:\.\d{1,9})?", text, re.ASCII):
            raise WorkerError(
                f"{self._device.name} does not tell its time (/proc/uptime: {text!r:.40}), so that "
                "visits cannot be ordered; measure on a board with Linux or Android"
            )
        at = float(text)
        if at < self._latest or at > _LATEST:
            raise WorkerError(
                f"the clock of {self._device.name} went from {self._latest:.2f} s to {at:.2f} s: "
                "the board was restarted; run the same command again to go on"
            )
        self._latest = at
        self._began = min(self._began, at)
        return at

    def _check_pinning(self, core: int, pin: str) -> None:
        try:
            done = self._device.transport.run(
                [*pin.split(), "cat", "/proc/self/status"], timeout=_START_TIMEOUT
            )
        except CommandFailed as error:
            raise WorkerError(
                f"{self._device.name} cannot pin a program to core {core} ({error}); remove `core` "
                "in boards.toml"
            ) from error
        status = done.stdout.decode(errors="replace")
        found = re.search(r"^Cpus_allowed_list:\s*(\S{1,200})", status, flags=re.MULTILINE)
        if done.code != 0 or found is None or found[1] != str(core):
            words = done.stderr.decode(errors="replace").strip()[-200:]
            raise WorkerError(
                f"{self._device.name} did not pin a program to core {core}"
                f"{f' ({words})' if words else ''}; give `core` in boards.toml another number, or "
                "remove it"
            )

    def _foreign(self, words: str) -> WorkerError:
        self.close()
        return WorkerError(
            f"the shell of {self._device.name} answered {words[:200]!r} where it should have run "
            f"{self._name}; what was measured is kept: run the same command again to go on"
        )


def answer_with_programs(
    driver: ProgramDriver,
    requests: Iterable[Model | VisitRequest | None],
    load: Callable[[Iterable[Model]], Iterator[str]],
    run: Callable[[str, int], Run],
    visit: Callable[[str, int, Ended], Visit],
) -> Iterator[str | Visit | Round]:
    """Requests as `WorkerSession.stream` answers them, each visit a run of its own.

    Models are loaded by `load` while nothing runs. `run` and `visit` are given a model's key and
    its repeats; `visit` says what a run has shown. Raises what these and the driver raise.
    """
    source = iter(requests)
    held: list[Model | VisitRequest | None] = []  # what was taken and is not of the kind in turn

    def visits() -> Iterator[VisitRequest | None]:
        for request in source:
            if isinstance(request, Model):
                held.append(request)
                return
            yield request

    def models() -> Iterator[Model]:
        for request in source:
            if not isinstance(request, Model):
                held.append(request)
                return
            yield request

    while True:
        yield from _visited(driver, visits(), run, visit)
        if not held:
            return
        source = itertools.chain([held.pop()], source)
        yield from load(models())
        source = itertools.chain(held[:], source)
        held.clear()


def _visited(
    driver: ProgramDriver,
    rounds: Iterable[VisitRequest | None],
    run: Callable[[str, int], Run],
    visit: Callable[[str, int, Ended], Visit],
) -> Iterator[Visit | Round]:
    asked: deque[VisitRequest] = deque()

    def requests() -> Iterator[Request | None]:
        for request in rounds:
            if request is None:
                yield None
                continue
            asked.append(request)
            for key, repeats in request.visits:
                yield run(key, repeats)
            yield STATE

    begin: float | None = None
    inside, place = 0.0, 0
    for answer in driver.each(requests()):
        if isinstance(answer, Ended):
            key, repeats = asked[0].visits[place]
            place += 1
            begin = answer.at if begin is None else begin
            found = visit(key, repeats, answer)
            inside += sum(found.warmup) + sum(found.seconds) * found.repeats
            yield found
            continue
        at = answer.values["at"]
        yield Round(at - (at if begin is None else begin), inside, answer.values)
        asked.popleft()
        begin, inside, place = None, 0.0, 0


def crashed(code: int) -> str | None:
    """The name of the signal that ended a program, by a shell's exit code; None for none."""
    names = {4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV"}
    return names.get(code - 128, f"signal {code - 128}") if code > 128 else None
