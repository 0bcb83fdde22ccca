"""A table built over a slow link: whether the worker on the board ever waits for its host.

The table of `mobilenetv3-32` is built on this machine, and again over a real SSH server with 20 ms
of added round trip. Both must have the same entries, and a search must be able to read both. A
third one is built over ADB, by the script that drives `benchmark_model`: a stand-in for it that
measures for real, on a phone that is played by this machine.

A worker waits where it has nothing to do, or where nobody takes what it has to say; it counts that
itself, from its greeting to what it says last. Then its host decides that nothing is left and tells
it so, which is counted here as one more round trip.
"""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from bars import bar

sys.path.append(str(Path(__file__).parents[1]))

from boardfit.devices.adb_direct import AdbDirectTransport, TcpWire
from boardfit.devices.base import Device
from boardfit.devices.ssh import SshTransport
from boardfit.profiler.build import build_table
from boardfit.profiler.connect import connect
from boardfit.profiler.plan import TablePlan
from boardfit.profiler.schedule import Schedule
from boardfit.profiler.store import Store
from boardfit.profiler.table import LookupTable
from boardfit.search.metrics import latency
from boardfit.search.spaces import open_space
from boardfit.search.tabulate import plan_table
from tests.quick_stand_in import quick_program
from tests.slow_link import SlowLink
from tests.sshd import Sshd
from tests.transport_boards import adb_key

SPACE = "mobilenetv3-32"
ROUND_TRIP = 0.020  # seconds
IDLE = 0.05  # share of the worker's time, at most
SEED = 0
# An invocation of the tool is a process and costs tens of milliseconds, whatever it measures: fewer
# operators are measured, and less often.
WITH_TOOL = Schedule(runs=2, minimum_rounds=2, maximum_rounds=4)
OPERATORS_WITH_TOOL = 200


@dataclass(frozen=True)
class Built:
    """A table, and the seconds that it took; `away` are those of the link's round trip."""

    table: LookupTable
    seconds: float
    away: float

    def share_idle(self, name: str) -> float:
        """Print how a build went; return the share of the workers' time in which they waited."""
        lived, waited, inside = seconds_of_sessions(self.table.path)
        lived, waited = lived + self.away, waited + self.away
        assert self.table.validation is not None
        print(
            f"{name}: {self.table.entries} entries, {self.table.runs} runs, MAPE "
            f"{self.table.validation.mape:.2%}; built in {self.seconds:.1f} s, of which workers "
            f"lived {lived:.1f} s and waited {waited:.2f} s ({waited / lived:.1%}); "
            f"{inside / lived:.0%} of their time inside of inferences",
            flush=True,
        )
        return waited / lived


def main() -> int:
    met = True
    tables: dict[str, LookupTable] = {}
    with tempfile.TemporaryDirectory() as name, connect("local") as here:
        folder = Path(name)
        plan = plan_table(open_space(SPACE))
        built = build(folder / "local.boardfit", here, plan)
        built.share_idle("this machine")
        tables["this machine"] = built.table
        with Sshd(folder / "sshd") as server, SlowLink(server.port, delay=ROUND_TRIP / 2) as link:
            server.know(name=f"[127.0.0.1]:{link.port}")
            with board(here, server, link) as far:
                built = build(folder / "ssh.boardfit", far, plan, away=ROUND_TRIP)
        met &= bar("over SSH, idle", built.share_idle("SSH"), IDLE, least=False)
        tables["SSH"] = built.table
        with phone(here, folder) as far:
            fewer = plan_table(open_space(SPACE), operators=OPERATORS_WITH_TOOL)
            built = build(folder / "adb.boardfit", far, fewer, WITH_TOOL)
        built.share_idle("ADB")
        tables["ADB"] = built.table
        met &= same_entries(tables)
        met &= read_by_a_search(tables)
    return int(not met)


def build(
    path: Path, device: Device, plan: TablePlan, schedule: Schedule | None = None, away: float = 0.0
) -> Built:
    """Build a table on a board."""
    begin = time.monotonic()
    table = build_table(path, device, plan, schedule)
    with Store.open(path) as store:
        sessions = len(store.sessions())
    return Built(table, time.monotonic() - begin, away * sessions)


@contextlib.contextmanager
def phone(here: Device, folder: Path) -> Iterator[Device]:
    """This machine as a phone without Python, reached over ADB's protocol."""
    server = Path(__file__).parents[1] / "tests" / "adb_device.py"
    with (
        quick_program(folder) as program,
        subprocess.Popen(
            [sys.executable, str(server)], stdout=subprocess.PIPE, text=True
        ) as device,
    ):
        assert device.stdout is not None
        transport = AdbDirectTransport(
            TcpWire("127.0.0.1", int(device.stdout.readline()), timeout=10), [adb_key()]
        )
        try:
            yield replace(
                here,
                name="over ADB",
                kind="adb",
                transport=transport,
                python=None,
                workspace=PurePosixPath(folder / "phone"),
                benchmark_model=program,
            )
        finally:
            transport.close()
            device.terminate()


def board(here: Device, server: Sshd, link: SlowLink) -> Device:
    """This machine, reached over the slow link."""
    return replace(
        here,
        name="over SSH",
        kind="ssh",
        transport=SshTransport([server.hop(port=link.port)]),
        workspace=PurePosixPath(server.home / "boardfit"),
    )


def seconds_of_sessions(path: Path) -> tuple[float, float, float]:
    """How long all workers lived and waited until what was last heard of each, and the seconds
    that they spent in inferences for the table."""
    lived: dict[int, float] = {}
    waited: dict[int, float] = {}
    inside = 0.0
    with Store.open(path) as store:
        for row in store.evidence():
            if "waited" in row:
                lived[row["session"]] = row["lived"]
                waited[row["session"]] = row["waited"]
            inside += row.get("warmup_seconds", 0.0) + row.get("inside", 0.0)
    return sum(lived.values()), sum(waited.values()), inside


def same_entries(tables: Mapping[str, LookupTable]) -> bool:
    """Networks are drawn from a seed; which operators are chosen follows from what is measured."""
    networks = {name: set(table.networks) for name, table in tables.items()}
    counts = {table.entries for table in tables.values()}
    same = len({frozenset(found) for found in networks.values()}) == 1
    print(f"{'met' if same else 'MISSED'}: the same networks; {sorted(counts)} entries")
    return same


def read_by_a_search(tables: Mapping[str, LookupTable]) -> bool:
    """Whether all price every architecture, and how far they lie apart."""
    space = open_space(SPACE)
    rng = np.random.default_rng(SEED)
    rows = np.array([[rng.choice(c.values) for c in space.coordinates] for _ in range(1000)])
    prices = {name: latency(space, table)(rows) for name, table in tables.items()}
    here = prices.pop("this machine")
    for name, far in prices.items():
        apart = float(np.abs(far / here - 1).mean())
        print(f"1000 architectures, {name} and this machine: {apart:.2%} apart on average")
    good = all(bool(np.isfinite(far).all()) for far in (here, *prices.values()))
    print(f"{'met' if good else 'MISSED'}: a search reads all tables")
    return good


if __name__ == "__main__":
    sys.exit(main())
