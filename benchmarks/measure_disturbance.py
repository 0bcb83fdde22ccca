"""Whether a disturbed board gives a wrong value without saying so.

Operators and whole networks of `mobilenetv3-32` are measured quiet, disturbed, and quiet again, run
by run in turn, so that all three meet the same states of the machine. Disturbed: for a second of
every three another program computes on the worker's core, and the worker is stopped and continued
at random. An entry is silently wrong where its disturbed value is more than 5 % above both quiet
ones and its verdict is steady. The bar is none.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from boardfit.devices.base import Device
from boardfit.profiler.build import begin_or_continue, sources
from boardfit.profiler.campaign import run_campaign
from boardfit.profiler.connect import connect
from boardfit.profiler.entry_verdict import entry_verdicts
from boardfit.profiler.schedule import Schedule
from boardfit.profiler.store import Entry, Store
from boardfit.profiler.table import of_runs, smallest_of_runs
from boardfit.search.mobilenetv3 import open_space
from boardfit.search.tabulate import plan_table

SPACE = "mobilenetv3-32"
OPERATORS, NETWORKS = 180, 20
OFF = 0.05  # relative; what is further off is wrong
MOST_NOISY = 0.05  # of the entries on the quiet board
KINDS = ("quiet", "disturbed", "quiet again")
PERIOD, BUSY = 3.0, 1.0  # seconds: of so many the other program computes for so many
STOPPED = (0.01, 0.5)  # seconds, shortest and longest
CONTINUED = (0.1, 2.0)  # seconds between two stops
BUSY_LOOP = "import time\nend = time.monotonic() + {}\nwhile time.monotonic() < end: pass"


def main() -> int:
    schedule = Schedule()
    entries = chosen_entries()
    device = connect("local")
    begin = time.monotonic()
    stops = 0
    with tempfile.TemporaryDirectory() as folder:
        paths = {kind: Path(folder) / kind for kind in KINDS}
        for run in range(1, schedule.runs + 1):
            for kind, path in paths.items():
                if kind == "disturbed":
                    with disturbance(device.core, seed=run) as counted:
                        campaign(path, device, entries, replace(schedule, runs=run))
                    stops += len(counted)
                else:
                    campaign(path, device, entries, replace(schedule, runs=run))
        found = {kind: values_and_verdicts(path, schedule.runs) for kind, path in paths.items()}
    seconds = time.monotonic() - begin
    print(
        f"{len(entries)} entries of {SPACE}, three times {schedule.runs} runs in {seconds:.0f} s; "
        f"the worker was stopped {stops} times"
    )
    return judge([entry.key for entry in entries], found)


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


Values = np.ndarray[tuple[int], np.dtype[np.float64]]


def values_and_verdicts(path: Path, runs: int) -> tuple[Values, list[str]]:
    """The table's statistic of each entry in seconds, and its verdict."""
    with Store.open(path) as store:
        visits = of_runs(store.visits(), runs)
    verdicts = entry_verdicts(visits.entry, visits.run, visits.seconds)
    values = smallest_of_runs(visits)
    return np.array([run.min() for run in values.values()]), list(map(str, verdicts.values()))


def judge(keys: Sequence[str], found: dict[str, tuple[Values, list[str]]]) -> int:
    """Print how the three agree; 1 where a bar is missed."""
    quiet = np.array([found["quiet"][0], found["quiet again"][0]])
    disturbed, verdicts = found["disturbed"]
    apart = quiet.max(axis=0) / quiet.min(axis=0) - 1
    print(
        f"the quiet ones differ by {apart.mean():.2%} on average, {(apart <= OFF).mean():.1%} of "
        f"the entries by at most {OFF:.0%}, one by {apart.max():.1%}"
    )
    ratio = disturbed / quiet.min(axis=0)
    print(
        f"disturbed: {(np.abs(ratio - 1) <= OFF).mean():.1%} of the entries within {OFF:.0%} of "
        f"the smaller quiet value, mean {np.abs(ratio - 1).mean():.2%}, worst {ratio.max() - 1:.1%}"
    )
    shares = {kind: both[1].count("noisy") / len(keys) for kind, both in found.items()}
    print("noisy: " + ", ".join(f"{kind} {share:.1%}" for kind, share in shares.items()))
    wrong = (disturbed > quiet.max(axis=0) * (1 + OFF)) & (np.array(verdicts) == "steady")
    lower = (disturbed < quiet.min(axis=0) * (1 - OFF)) & (np.array(verdicts) == "steady")
    for number in np.flatnonzero(wrong | lower).tolist():
        print(
            f"  {keys[number]}: disturbed {disturbed[number] * 1e6:.2f} us, quiet "
            f"{quiet[0, number] * 1e6:.2f} and {quiet[1, number] * 1e6:.2f} us"
        )
    print(
        f"silently wrong (more than {OFF:.0%} above both quiet values, and steady): {wrong.sum()} "
        f"of {len(keys)} (bar 0); as far below both: {lower.sum()}"
    )
    too_noisy = max(shares["quiet"], shares["quiet again"]) >= MOST_NOISY
    return int(bool(wrong.any()) or too_noisy)


@contextmanager
def disturbance(core: int | None, seed: int) -> Iterator[list[float]]:
    """Disturb the workers of this process; yields the list of the seconds that one was stopped."""
    over = threading.Event()
    stops: list[float] = []
    threads = [
        threading.Thread(target=compete, args=(core, random.Random(seed), over)),
        threading.Thread(target=stop_workers, args=(random.Random(seed + 1), over, stops)),
    ]
    for thread in threads:
        thread.start()
    try:
        yield stops
    finally:
        over.set()
        for thread in threads:
            thread.join()


def compete(core: int | None, rng: random.Random, over: threading.Event) -> None:
    """Let another program compute on the core, at a random moment of each period."""
    pin = [] if core is None else ["taskset", "-c", str(core)]
    while not over.is_set():
        before = rng.uniform(0, PERIOD - BUSY)
        over.wait(before)
        program = subprocess.Popen([*pin, sys.executable, "-c", BUSY_LOOP.format(BUSY)])
        over.wait(PERIOD - before)
        program.kill()
        program.wait()


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
