"""Builds of a real table on this machine, killed a hundred times at random moments.

The host is a process of its own, which is killed by SIGKILL, or its worker is (found
by its parent). Each build goes on with the same command until it finishes.
"""

import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from os import kill
from pathlib import Path

from bars import bar

from boardfit.devices.errors import BoardfitError
from boardfit.profiler.store import Store
from boardfit.profiler.table import LookupTable

KILLS = 100
LONGEST = 120.0  # seconds of a build; it takes a few
HOST = """
import sys
from pathlib import Path
from boardfit.devices.errors import BoardfitError
from boardfit.profiler.build import build_table
from boardfit.profiler.connect import connect
from boardfit.profiler.schedule import Schedule
from boardfit.search.spaces import open_space
from boardfit.search.tabulate import plan_table
# Fewer operators than the space has, so that some are chosen while the first run is measured.
space = open_space("mobilenetv3-32", width_factor=0.25)
plan = plan_table(space, calibration=10, validation=10, operators=150)
schedule = Schedule(runs=2, minimum_rounds=4, maximum_rounds=6, samples=2, warmup_seconds=0.1)
print("ready", flush=True)
try:
    build_table(Path(sys.argv[1]), connect("local"), plan, schedule)
except BoardfitError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


Rows = dict[object, object]


def main() -> int:
    rng = random.Random(0)
    counts: Counter[str] = Counter()
    harm: Counter[str] = Counter({"lost": 0, "changed": 0, "doubled": 0})
    rows_checked = tables = valid = 0
    with tempfile.TemporaryDirectory() as folder:
        whole = attempt(Path(folder) / "undisturbed", None, "host").seconds
        print(f"an undisturbed build takes {whole:.1f} s", flush=True)
        while sum(counts.values()) < KILLS:
            path = Path(folder) / f"table-{tables}"
            before: Rows = {}
            finished = False
            while not finished:
                target = rng.choice(["host", "worker"])
                moment = moment_of(rng, whole) if sum(counts.values()) < KILLS else None
                end = attempt(path, moment, target)
                finished = end.finished
                if end.killed:
                    counts[f"{target}, {end.phase}"] += 1
                rows_checked += len(before)
                before = grown(before, path, harm)
            tables += 1
            validation = LookupTable.open(path).validation
            valid += validation is not None and validation.passes
    for name, count in sorted(counts.items()):
        print(f"killed the {name}: {count}")
    print(
        f"{sum(counts.values())} kills in builds of {tables} tables, {rows_checked} times a "
        "committed row was looked for again"
    )
    met = [bar(f"rows {name}", n, 0, least=False, form="d") for name, n in harm.items()]
    met.append(bar("tables whose validation passes", valid, tables, least=True, form="d"))
    return int(not all(met))


def moment_of(rng: random.Random, whole: float) -> float:
    """When to kill: anywhere, and as often while the file is made or the last fit is written."""
    return rng.choice(
        [rng.uniform(0, 0.9 * whole), rng.uniform(0, 0.2), rng.uniform(0.85 * whole, whole)]
    )


@dataclass(frozen=True)
class End:
    """How a build ended: after how many seconds, whether it finished, whether something was
    killed, and how far the file had come by then."""

    seconds: float
    finished: bool
    killed: bool
    phase: str


def attempt(path: Path, moment: float | None, target: str) -> End:
    """Run the command and kill `target` after `moment` seconds."""
    argv = [sys.executable, "-c", HOST, str(path)]
    host = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    killed, how_far = False, ""
    try:
        # Not an assertion, which would not read where Python leaves assertions out.
        if host.stdout is None or host.stdout.readline() != "ready\n":
            raise RuntimeError(f"a build did not begin: {host.communicate(timeout=LONGEST)[1]}")
        begin = time.monotonic()
        with suppress(subprocess.TimeoutExpired):
            host.wait(LONGEST if moment is None else moment)
        if moment is not None and host.poll() is None:
            how_far = phase(path)
            if target == "host":
                host.kill()
                killed = True
            else:
                children = Path(f"/proc/{host.pid}/task/{host.pid}/children").read_text().split()
                for worker in children:
                    with suppress(ProcessLookupError):
                        kill(int(worker), signal.SIGKILL)
                        killed = True
        _, words = host.communicate(timeout=LONGEST)
    finally:
        host.kill()
        host.wait()
    if "Traceback" in words or (not killed and host.returncode != 0):
        raise RuntimeError(f"a build ended by itself, and otherwise than with a result: {words}")
    return End(time.monotonic() - begin, host.returncode == 0, killed, how_far)


def phase(path: Path) -> str:
    """How far a build had come."""
    if not path.exists():
        return "before the file was there"
    with Store.open(path) as store:
        if store.document("plan") is None:
            return "before the plan was there"
        if store.document("result") is not None:
            return "after the result"
        rows = store.visits(probes=True)
        if not len(rows.run):
            return "before the first sample"
        return f"run {int(rows.run.max()) + 1}"


def grown(before: Rows, path: Path, harm: Counter[str]) -> Rows:
    """The rows of now; counts those seen before that are not there, once and with equal values."""
    if not path.exists():
        harm["lost"] += len(before)
        return {}
    with Store.open(path) as store:
        rows = store.samples()
    now: Rows = {(row[0], *row[2:5]): row[5:] for row in rows}
    harm["doubled"] += len(rows) - len(now)
    for key, value in before.items():
        if key not in now:
            harm["lost"] += 1
        elif now[key] != value:
            harm["changed"] += 1
    return now


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BoardfitError as error:
        sys.exit(str(error))
