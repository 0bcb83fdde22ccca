"""Whether a disturbed board gives a wrong value without saying so.

Operators and whole networks of `mobilenetv3-32` are measured quiet, disturbed, and quiet again, run
by run in turn, so that all three meet the same states of the machine. Disturbed: for a second of
every three another program computes on the worker's core, and the worker is stopped and continued
at random. An entry is silently wrong where its disturbed value is more than 5 % above both quiet
ones and its verdict is steady. The bar is none. Where no worker was stopped, or the other program
did not compute, the benchmark fails: it would show nothing.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from bars import bar

from boardfit.devices.base import Device
from boardfit.profiler.build import begin_or_continue, sources
from boardfit.profiler.campaign import run_campaign
from boardfit.profiler.connect import connect
from boardfit.profiler.entry_verdict import entry_verdicts
from boardfit.profiler.schedule import Schedule
from boardfit.profiler.store import Entry, Store
from boardfit.profiler.table_values import smallest_of_runs
from boardfit.search.spaces import open_space
from boardfit.search.tabulate import plan_table

SPACE = "mobilenetv3-32"
OPERATORS, NETWORKS = 180, 20
OFF = 0.05  # relative; what is further off is wrong
MOST_NOISY = 0.05  # of the entries on the quiet board
KINDS = ("quiet", "disturbed", "quiet again")
PERIOD, BUSY = 3.0, 1.0  # seconds: of so many the other program computes for so many
STOPPED = (0.01, 0.5)  # seconds, shortest and longest
CONTINUED = (0.05, 0.5)  # seconds between two stops
REPETITIONS = 3  # of all of it, each with other random moments
BUSY_LOOP = "import time\nend = time.monotonic() + {}\nwhile time.monotonic() < end: pass"


def main() -> int:
    entries = chosen_entries()
    device = connect("local")
    met = True
    for repetition in range(REPETITIONS):
        with tempfile.TemporaryDirectory() as folder:
            met &= compare(device, entries, Path(folder), seed=repetition)
    return int(not met)


def compare(device: Device, entries: Sequence[Entry], folder: Path, seed: int) -> bool:
    """Measure all three and print how they agree; whether the bars are met."""
    schedule = Schedule()
    begin = time.monotonic()
    stops: list[float] = []
    computed: list[float] = []
    disturbed_seconds = 0.0
    for run in range(1, schedule.runs + 1):
        for kind in KINDS:
            runs = replace(schedule, runs=run)
            if kind == "disturbed":
                start = time.monotonic()
                with disturbance(device.core, seed * 100 + run, stops, computed):
                    campaign(folder / kind, device, entries, runs)
                disturbed_seconds += time.monotonic() - start
            else:
                campaign(folder / kind, device, entries, runs)
    found = {kind: Measured(folder / kind, schedule.runs) for kind in KINDS}
    slow = {kind: share_slow(measured) for kind, measured in found.items()}
    print(
        f"{len(entries)} entries of {SPACE}, three times {schedule.runs} runs in "
        f"{time.monotonic() - begin:.0f} s. The disturbed ones took {disturbed_seconds:.0f} s, in "
        f"which the worker was stopped {len(stops)} times for {sum(stops):.1f} s altogether, and "
        f"the other program computed for {sum(computed):.1f} s; "
        + ", ".join(f"{share:.0%} {kind}" for kind, share in slow.items())
        + " of the visits took 5 % longer than the smallest"
    )
    met = judge([entry.key for entry in entries], found)
    if not stops or not sum(computed):
        print("  MISSED: the board was not disturbed: this shows nothing", flush=True)
        return False
    return met


def chosen_entries() -> list[Entry]:
    """A random sample of the space's operators, and whole networks."""
    plan = plan_table(
        open_space(SPACE), calibration=NETWORKS // 2, validation=NETWORKS // 2, operators=None
    )
    entries = plan.entries()
    operators = [entry for entry in entries if entry.role == "operator"]
    networks = [entry for entry in entries if entry.role != "operator"]
    order = np.random.default_rng(0).permutation(len(operators))[:OPERATORS]
    return [*(operators[i] for i in order), *networks]


def campaign(path: Path, device: Device, entries: Sequence[Entry], schedule: Schedule) -> None:
    """Measure all runs that the file lacks yet."""
    with begin_or_continue(path, entries, {"kind": "benchmark"}) as store:
        run_campaign(store, device, sources(entries), schedule)


class Measured:
    """What a campaign found of each entry: the table's statistic in seconds, and its verdict."""

    def __init__(self, path: Path, runs: int) -> None:
        with Store.open(path) as store:
            self.visits = store.visits().before(runs)
        values = smallest_of_runs(self.visits)
        verdicts = entry_verdicts(self.visits.entry, self.visits.run, self.visits.seconds)
        self.seconds = np.array([run.min() for run in values.values()])
        self.steady = np.array([verdicts[entry] == "steady" for entry in values])


def share_slow(measured: Measured) -> float:
    """The share of the visits that took more than 5 % longer than their entry's smallest."""
    numbers = np.unique(measured.visits.entry, return_inverse=True)[1]
    return float((measured.visits.seconds > measured.seconds[numbers] * (1 + OFF)).mean())


def judge(keys: Sequence[str], found: Mapping[str, Measured]) -> bool:
    """Print how the three agree; whether the bars are met."""
    quiet = np.array([found["quiet"].seconds, found["quiet again"].seconds])
    disturbed, steady = found["disturbed"].seconds, found["disturbed"].steady
    apart = quiet.max(axis=0) / quiet.min(axis=0) - 1
    print(
        f"  the quiet ones differ by {apart.mean():.2%} on average, {(apart <= OFF).mean():.1%} "
        f"of the entries by at most {OFF:.0%}, one by {apart.max():.1%}"
    )
    ratio = disturbed / quiet.min(axis=0)
    print(
        f"  disturbed: {(np.abs(ratio - 1) <= OFF).mean():.1%} of the entries within {OFF:.0%} of "
        f"the smaller quiet value, mean {np.abs(ratio - 1).mean():.2%}, worst {ratio.max() - 1:.1%}"
    )
    for kind, seconds in zip(("quiet", "quiet again"), quiet, strict=True):
        off = disturbed / seconds - 1
        print(
            f"  against {kind} alone: {int((off > OFF).sum())} of {len(keys)} more than {OFF:.0%} "
            f"above ({int(((off > OFF) & steady).sum())} of them steady), "
            f"{int((off < -OFF).sum())} as far below"
        )
    noisy = {kind: 1 - float(measured.steady.mean()) for kind, measured in found.items()}
    print("  noisy: " + ", ".join(f"{kind} {share:.1%}" for kind, share in noisy.items()))
    above = disturbed > quiet.max(axis=0) * (1 + OFF)
    below = disturbed < quiet.min(axis=0) * (1 - OFF)
    for number in np.flatnonzero(above | below).tolist():
        print(
            f"  {'steady' if steady[number] else 'noisy'}: {keys[number]}: disturbed "
            f"{disturbed[number] * 1e6:.2f} us, quiet {quiet[0, number] * 1e6:.2f} and "
            f"{quiet[1, number] * 1e6:.2f} us"
        )
    wrong = int((above & steady).sum())
    print(f"  steady and as far below both quiet values: {int((below & steady).sum())}")
    name = f"silently wrong of {len(keys)}, more than {OFF:.0%} above both and steady"
    met = [
        bar(name, wrong, 0, least=False, form="d"),
        bar("noisy on the quiet board", noisy["quiet"], MOST_NOISY, least=False),
        bar("noisy on the quiet board again", noisy["quiet again"], MOST_NOISY, least=False),
    ]
    return all(met)


@contextmanager
def disturbance(
    core: int | None, seed: int, stops: list[float], computed: list[float]
) -> Iterator[None]:
    """Disturb the workers of this process; adds the seconds for which one was stopped each time,
    and those that the other program has had of a core."""
    over = threading.Event()
    threads = [
        threading.Thread(target=compete, args=(core, random.Random(seed), over, computed)),
        threading.Thread(target=stop_workers, args=(random.Random(seed + 1), over, stops)),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def compete(
    core: int | None, rng: random.Random, over: threading.Event, computed: list[float]
) -> None:
    """Let another program compute on the core, at a random moment of each period."""
    pin = [] if core is None else ["taskset", "-c", str(core)]
    while not over.is_set():
        before = rng.uniform(0, PERIOD - BUSY)
        over.wait(before)
        program = subprocess.Popen([*pin, sys.executable, "-c", BUSY_LOOP.format(BUSY)])
        over.wait(PERIOD - before)
        os.kill(program.pid, signal.SIGKILL)  # Popen.kill would wait for it, and forget its usage
        _, program.returncode, usage = os.wait4(program.pid, 0)
        computed.append(usage.ru_utime)


def stop_workers(rng: random.Random, over: threading.Event, stops: list[float]) -> None:
    """Stop the worker and continue it, again and again."""
    while not over.wait(rng.uniform(*CONTINUED)):
        for pid in workers():
            seconds = rng.uniform(*STOPPED)
            with suppress(ProcessLookupError):  # it may just have ended
                os.kill(pid, signal.SIGSTOP)
                over.wait(seconds)
                os.kill(pid, signal.SIGCONT)
                stops.append(seconds)


def workers() -> list[int]:
    """The children of this process that are workers."""
    found = []
    # A child belongs to the thread that started it.
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):
            for pid in (task / "children").read_text().split():
                if "worker.py" in Path(f"/proc/{pid}/cmdline").read_text():
                    found.append(int(pid))
    return found


if __name__ == "__main__":
    sys.exit(main())
