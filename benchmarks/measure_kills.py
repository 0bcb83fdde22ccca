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
from os import kill
from pathlib import Path

from boardfit.devices.errors import BoardfitError
from boardfit.profiler.store import Store
from boardfit.profiler.table import LookupTable

ROOT = Path(__file__).parents[1]
KILLS = 100
HOST = """
import sys
from pathlib import Path
sys.path.append(sys.argv[1])
from boardfit.devices.errors import BoardfitError
from boardfit.profiler.build import build_table
from boardfit.profiler.connect import connect
from tests.small_board import QUICK, small_plan
print("ready", flush=True)
try:
    build_table(Path(sys.argv[2]), connect("local"), small_plan(), QUICK)
except BoardfitError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def main() -> None:
    rng = random.Random(0)
    counts: Counter[str] = Counter()
    rows_checked = tables = valid = 0
    with tempfile.TemporaryDirectory() as folder:
        whole, _ = attempt(Path(folder) / "undisturbed", None, "host")
        while sum(counts.values()) < KILLS:
            path = Path(folder) / f"table-{tables}"
            before: dict[object, object] = {}
            finished = False
            while not finished:
                left = KILLS - sum(counts.values())
                target = rng.choice(["host", "worker"])
                # Short enough that a table meets several kills, long enough that it ends.
                moment = rng.uniform(0, 0.8 * whole) if left > 0 else None
                _, end = attempt(path, moment, target)
                finished = end == "finished"
                if end == "killed":
                    counts[f"{target}, {phase(path)}"] += 1
                before, checked = grown(before, path)
                rows_checked += checked
            tables += 1
            valid += LookupTable.open(path).validation.passes
    for name, count in sorted(counts.items()):
        print(f"killed the {name}: {count}")
    print(
        f"{sum(counts.values())} kills in builds of {tables} tables, {rows_checked} times a "
        f"committed row was looked for again: 0 lost, 0 changed, 0 doubled; validation of the "
        f"finished tables passes: {valid} of {tables}"
    )


def attempt(path: Path, moment: float | None, target: str) -> tuple[float, str]:
    """Run the command and kill `target` after `moment` seconds; how long it took, and its end."""
    argv = [sys.executable, "-c", HOST, str(ROOT), str(path)]
    host = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert host.stdout is not None
    assert host.stdout.readline() == "ready\n"
    begin = time.monotonic()
    killed = False
    try:
        with suppress(subprocess.TimeoutExpired):
            host.wait(120 if moment is None else moment)
        if moment is not None and host.poll() is None:
            if target == "host":
                host.kill()
                killed = True
            else:
                children = Path(f"/proc/{host.pid}/task/{host.pid}/children").read_text().split()
                for worker in children:
                    with suppress(ProcessLookupError):
                        kill(int(worker), signal.SIGKILL)
                        killed = True
        _, words = host.communicate(timeout=120)
    finally:
        host.kill()
        host.wait()
    if host.returncode == 0:
        return time.monotonic() - begin, "killed" if killed and target == "host" else "finished"
    assert killed, f"a build ended by itself: {words}"
    assert "Traceback" not in words, words
    return time.monotonic() - begin, "killed"


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


def grown(before: dict[object, object], path: Path) -> tuple[dict[object, object], int]:
    """Check that all rows seen before are there, once and with equal values; the rows now."""
    if not path.exists():
        assert not before
        return {}, 0
    with Store.open(path) as store:
        rows = store.samples()
    now: dict[object, object] = {(row[0], *row[2:5]): row[5:] for row in rows}
    assert len(now) == len(rows), "a row is there twice"
    for key, value in before.items():
        assert now.get(key) == value, f"the row {key} was lost or changed"
    return now, len(before)


if __name__ == "__main__":
    try:
        main()
    except BoardfitError as error:
        sys.exit(str(error))
