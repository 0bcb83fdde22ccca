"""A table built over a slow link: whether the worker on the board ever waits for its host.

The table of `mobilenetv3-32` is built on this machine, and again over a real SSH server with 20 ms
of added round trip. Both must have the same entries, and a search must be able to read both.
"""

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from bars import bar

sys.path.append(str(Path(__file__).parents[1]))

from boardfit.devices.base import Device
from boardfit.devices.ssh import SshTransport
from boardfit.profiler.build import build_table
from boardfit.profiler.connect import connect
from boardfit.profiler.store import Store
from boardfit.profiler.table import LookupTable
from boardfit.search.metrics import latency
from boardfit.search.spaces import open_space
from boardfit.search.tabulate import plan_table
from tests.slow_link import SlowLink
from tests.sshd import Sshd

SPACE = "mobilenetv3-32"
ROUND_TRIP = 0.020  # seconds
IDLE = 0.05  # share of the worker's time, at most
SEED = 0


def main() -> int:
    met = True
    with tempfile.TemporaryDirectory() as name, connect("local") as here:
        folder = Path(name)
        plan = plan_table(open_space(SPACE))
        tables = {"this machine": build_table(folder / "local.boardfit", here, plan)}
        with Sshd(folder / "sshd") as server, SlowLink(server.port, delay=ROUND_TRIP / 2) as link:
            server.know(name=f"[127.0.0.1]:{link.port}")
            with board(here, server, link) as far:
                tables["SSH"] = build_table(folder / "ssh.boardfit", far, plan)
        shares = {}
        for name, table in tables.items():
            wall, waited = seconds_of_sessions(table.path)
            shares[name] = waited / wall
            assert table.validation is not None
            print(
                f"{name}: {table.entries} entries, {table.runs} runs, MAPE "
                f"{table.validation.mape:.2%}; the worker lived {wall:.1f} s and waited "
                f"{waited:.2f} s ({shares[name]:.1%})"
            )
        met &= bar("over SSH, idle", shares["SSH"], IDLE, least=False)
        met &= same_entries(tables)
        met &= read_by_a_search(tables)
    return int(not met)


def board(here: Device, server: Sshd, link: SlowLink) -> Device:
    """This machine, reached over the slow link."""
    return replace(
        here,
        name="over SSH",
        kind="ssh",
        transport=SshTransport([server.hop(port=link.port)]),
        workspace=PurePosixPath(server.home / "boardfit"),
    )


def seconds_of_sessions(path: Path) -> tuple[float, float]:
    """Seconds from the first to the last that was heard of each worker, and how long it waited."""
    heard: dict[int, list[tuple[float, float]]] = {}
    with Store.open(path) as store:
        for row in store.evidence():
            if "waited" in row:
                heard.setdefault(row["session"], []).append((row["at"], row["waited"]))
    first_and_last = [(min(times), max(times)) for times in heard.values()]
    wall, waited = np.array([np.subtract(b, a) for a, b in first_and_last]).sum(axis=0).tolist()
    return wall, waited


def same_entries(tables: Mapping[str, LookupTable]) -> bool:
    """Networks are drawn from a seed; which operators are chosen follows from what is measured."""
    networks = {name: set(table.networks) for name, table in tables.items()}
    counts = {table.entries for table in tables.values()}
    same = len({frozenset(found) for found in networks.values()}) == 1
    print(f"{'met' if same else 'MISSED'}: the same networks; {sorted(counts)} entries")
    return same


def read_by_a_search(tables: Mapping[str, LookupTable]) -> bool:
    """Whether both price every architecture, and how far they lie apart."""
    space = open_space(SPACE)
    rng = np.random.default_rng(SEED)
    rows = np.array([[rng.choice(c.values) for c in space.coordinates] for _ in range(1000)])
    here, far = (latency(space, table)(rows) for table in tables.values())
    print(f"1000 architectures: {np.abs(far / here - 1).mean():.2%} apart on average")
    good = bool(np.isfinite(here).all() and np.isfinite(far).all())
    print(f"{'met' if good else 'MISSED'}: a search reads both tables")
    return good


if __name__ == "__main__":
    sys.exit(main())
