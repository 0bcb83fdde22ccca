"""A fleet as it is: a Dask scheduler and a worker process for each board, and what befalls them."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from distributed import Scheduler

from boardfit.devices.errors import BoardfitError, DeviceLost, DeviceNotFound, InputError
from boardfit.profiler import fleet_dask
from boardfit.profiler.build import build_table
from boardfit.profiler.fleet_build import build_fleet_table
from boardfit.profiler.fleet_tls import TlsFiles
from boardfit.profiler.progress import Progress
from boardfit.profiler.store import Store

from .small_board import QUICK, board, samples, small_plan

PLAN = small_plan()
SLOW = replace(QUICK, sample_seconds=4e-3)  # a run takes seconds, which boards really take

CHILD = """
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from boardfit.profiler.fleet_build import build_fleet_table
from boardfit.profiler.fleet_dask import local_cluster
sys.path.insert(0, sys.argv[1])
from small_board import QUICK, small_plan
schedule = replace(QUICK, sample_seconds=4e-3)
reach = partial(local_cluster, ["one", "two"], inventory=Path(sys.argv[3]))
build_fleet_table(Path(sys.argv[2]), small_plan(), ["one", "two"], reach, schedule)
"""


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    path = tmp_path / "boards.toml"
    path.write_text(
        "".join(
            f'[boards.{name}]\ntransport = "fake"\nseed = 7\nreal_time = true\n'
            for name in ("one", "two", "three")
        )
    )
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table as one board builds it, whose time does not really pass."""
    path = tmp_path_factory.mktemp("plain") / "table"
    build_table(path, board(seed=7), PLAN, SLOW)
    return path


def workers(inventory: Path) -> dict[str, int]:
    """The worker processes that use an inventory, by board."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if str(inventory).encode() in words and b"worker" in words:
                found[words[words.index(b"worker") + 1].decode()] = int(folder.name)
    return found


def wait_until(met: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "this should have happened by now"
        time.sleep(0.05)


def test_a_killed_and_a_hung_worker_cost_no_entry(
    tmp_path: Path, inventory: Path, plain: Path
) -> None:
    """Their shares go to the third board; what came before is kept."""
    names = ["one", "two", "three"]
    told: list[Progress] = []
    harmed: list[int] = []

    def report(step: Progress) -> None:
        told.append(step)
        if step.stage == "measure operators" and step.done and not harmed:
            mine = workers(inventory)
            harmed.extend([mine["one"], mine["two"]])
            os.kill(mine["one"], signal.SIGKILL)
            os.kill(mine["two"], signal.SIGSTOP)

    built = build_fleet_table(
        tmp_path / "table",
        PLAN,
        names,
        partial(fleet_dask.local_cluster, names, inventory=inventory),
        SLOW,
        silence=3.0,
        report=report,
    )
    built.check()
    assert samples(tmp_path / "table") == samples(plain)
    words = " ".join(step.detail for step in told if step.stage == "boards lost")
    # It may have had nothing to do just then.
    assert re.search("one was lost: (the Dask worker of one ended|one is not offered)", words)
    assert "two was lost: two has given no sign of life for 3 s" in words
    assert workers(inventory) == {}


def test_a_killed_host_leaves_nobody_behind_and_goes_on(
    tmp_path: Path, inventory: Path, plain: Path
) -> None:
    path = tmp_path / "table"
    argv = [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(path), str(inventory)]

    def begun() -> int:
        with contextlib.suppress(BoardfitError), Store.open(path) as store:
            return len(store.samples())
        return 0

    with subprocess.Popen(argv) as first:
        wait_until(lambda: begun() > 0)
        first.kill()
    kept = samples(path)
    assert 0 < len(kept) < len(samples(plain))
    wait_until(lambda: workers(inventory) == {}, 20.0)
    assert subprocess.run(argv, timeout=120, check=False).returncode == 0
    assert samples(path) == samples(plain)
    assert set(kept) <= set(samples(path))


# A scheduler that runs somewhere


@contextlib.contextmanager
def scheduler(tls: TlsFiles | None = None) -> Iterator[str]:
    """A scheduler in a thread of this process; its address."""
    found: list[str] = []
    started, ended = threading.Event(), threading.Event()

    async def serve() -> None:
        security = fleet_dask.security_of(tls)
        async with Scheduler(
            host="127.0.0.1",
            port=0,
            protocol="tls" if tls else "tcp",
            security=security,
            dashboard=False,
            dashboard_address="127.0.0.1:0",
        ) as running:
            found.append(running.address)
            started.set()
            while not ended.is_set():
                await asyncio.sleep(0.05)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert started.wait(30)
        yield found[0]
    finally:
        ended.set()
        thread.join(30)


@contextlib.contextmanager
def offering(
    name: str, address: str, inventory: Path, tls: TlsFiles | None = None
) -> Iterator[subprocess.Popen[str]]:
    """`boardfit devices worker` in a process of its own."""
    argv = [sys.executable, "-m", "boardfit", "devices", "worker", name, "--scheduler", address]
    argv += ["--boards", str(inventory)]
    if tls is not None:
        argv += ["--tls-ca", str(tls.authority), "--tls-cert", str(tls.certificate)]
        argv += ["--tls-key", str(tls.key)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()
            assert process.wait(20) is not None


class Authority:
    """A certificate authority, and what it signs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)])
        self._write("ca.pem", self._signed(self._name, self._key.public_key(), authority=True))

    def member(self, name: str) -> TlsFiles:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._write(f"{name}.pem", self._signed(subject, key.public_key()))
        path = self._folder / f"{name}.key"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return TlsFiles(self._folder / "ca.pem", certificate, path)

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, authority: bool = False
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        day = datetime.timedelta(days=1)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )

    def _write(self, name: str, certificate: x509.Certificate) -> Path:
        path = self._folder / name
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path


def test_members_with_certificates_build_a_table_and_others_are_refused(
    tmp_path: Path, inventory: Path
) -> None:
    ours, foreign = Authority(tmp_path / "ours"), Authority(tmp_path / "foreign")
    host, stranger = ours.member("host"), foreign.member("stranger")
    names = ["one", "two"]
    build_table(tmp_path / "plain", board(seed=7), PLAN, QUICK)

    def build(tls: TlsFiles | None, asked: Sequence[str] = names) -> None:
        build_fleet_table(
            tmp_path / "table",
            PLAN,
            asked,
            partial(fleet_dask.join, address, tls=tls),
            QUICK,
            patience=2.0 if asked is not names else 30.0,
        )

    with (
        scheduler(host) as address,
        offering("one", address, inventory, ours.member("one")),
        offering("two", address, inventory, ours.member("two")),
    ):
        assert address.startswith("tls://")
        with pytest.raises(InputError, match="give --tls-ca"):
            build(None)
        with pytest.raises(DeviceLost, match="no scheduler answers"):
            build(stranger)
        with pytest.raises(InputError, match=r"--tls-cert .*fit one another"):
            build(replace(host, key=stranger.key))
        build(host)
        assert samples(tmp_path / "table") == samples(tmp_path / "plain")
        (tmp_path / "table").unlink()
        with pytest.raises(DeviceNotFound, match="nobody offers three"):
            build(host, ["one", "three"])


def test_a_board_is_offered_once_and_until_the_scheduler_ends(inventory: Path) -> None:
    with contextlib.ExitStack() as stack:
        with scheduler() as address:
            one = stack.enter_context(offering("one", address, inventory))
            with fleet_dask.join(address) as boards:
                wait_until(lambda: boards.offered() == {"one"})
            with offering("one", address, inventory) as again:
                _, words = again.communicate(timeout=30)
            assert again.returncode == 3
            assert "did not take one" in words
            assert "Traceback" not in words
            assert one.poll() is None
        wait_until(lambda: one.poll() is not None, 20.0)
        assert one.returncode == 0


def test_workers_leave_no_folder_behind(
    inventory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    with fleet_dask.local_cluster(["one", "two"], inventory=inventory) as boards:
        assert boards.offered() == {"one", "two"}
        assert len(list(place.glob("boardfit-*"))) == 2
    assert not list(place.glob("boardfit-*"))
