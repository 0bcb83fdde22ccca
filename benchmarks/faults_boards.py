"""Boards that really fail: machines with a real SSH server, or with the device side of ADB.

Each is a `Machine`, reached over a link that can be cut, frozen and garbled: over SSH, directly
over ADB, and, without Python, through Android's own adb server.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from faults_machine import Machine

sys.path.append(str(Path(__file__).parents[1]))

from tests.slow_link import SlowLink
from tests.sshd import Sshd

DEVICE_SIDE = Path(__file__).parents[1] / "tests" / "adb_device.py"
SETTINGS = 'settings = { governor = "performance" }'
# A tool in benchmark_model's place: what it prints follows from the model's size.
TOOL = """\
#!/bin/sh
inferences=1
for word; do
  case $word in
  --graph=*) size=$(wc -c <"${word#*=}") || exit 1 ;;
  --num_runs=*) inferences=${word#*=} ;;
  esac
done
took=$((20 + size / 8))
sleep 0.02
echo "Explicitly applied XNNPACK delegate, and the model graph will be completely executed by the \
delegate."
echo "count=3 curr=$took"
echo "count=$inferences curr=$took"
echo "Inference timings in us: Init: 100, First inference: $took, Warmup (avg): $took, \
Inference (avg): $took"
"""


class Victim(Protocol):
    """The process that builds."""

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""

    def sleep(self, seconds: float) -> None:
        """Wait so long, or until it has ended."""

    def heard(self) -> None:
        """Do not count its silence until now."""


# Makes a board or its host suffer; whether there was anything to suffer. It ends once that is over.
Kind = Callable[[Victim, random.Random], bool]


@dataclass(frozen=True)
class Board:
    """A board that can be made to fail: what the inventory has of it, what its host's environment
    is, and the kinds of faults.

    `work` is what stands in the arguments of a worker there, `silence` how many seconds a build may
    say nothing.
    """

    name: str
    machine: Machine
    entry: Mapping[str, object]
    environment: Mapping[str, str]
    work: bytes
    silence: float
    kinds: Mapping[str, Kind] = field(default_factory=dict)

    def inventory(self) -> str:
        """The board as `boards.toml` has it."""
        lines = [f"{name} = {value!r}" for name, value in self.entry.items()]
        lines = [line.replace("True", "true").replace("False", "false") for line in lines]
        return "\n".join([f"[boards.{self.name}]", *lines, SETTINGS, ""])


@contextlib.contextmanager
def ssh_board(folder: Path) -> Iterator[Board]:
    """A board over SSH, with our worker."""
    server = Sshd(folder / "sshd")
    server.port = _free_port()
    with (
        Machine(folder / "machine", server.command()) as machine,
        SlowLink(server.port) as link,
    ):
        _wait_for(machine, server.port)
        server.know(name=f"[127.0.0.1]:{link.port}")
        home = folder / "host"
        (home / ".ssh").mkdir(parents=True)
        words = [
            "Host board",
            "HostName 127.0.0.1",
            f"Port {link.port}",
            f"User {server.user}",
            f"IdentityFile {server.key}",
            "IdentitiesOnly yes",
            f"UserKnownHostsFile {server.known_hosts}",
        ]
        (home / ".ssh" / "config").write_text("\n".join(words) + "\n")
        yield Board(
            "ssh",
            machine,
            {"transport": "ssh", "host": "board", **_python(machine)},
            {"HOME": str(home)},
            b"worker.py",
            silence=120.0,
            kinds=_kinds(machine, link, b"worker.py", b"sshd"),
        )


@contextlib.contextmanager
def adb_board(folder: Path) -> Iterator[Board]:
    """A board directly over ADB, with our worker (as where Termux is installed)."""
    with _device_side(folder) as (machine, link):
        yield Board(
            "adb",
            machine,
            {
                "transport": "adb",
                "serial": f"127.0.0.1:{link.port}",
                "server": False,
                **_python(machine),
            },
            {"HOME": str(folder / "host")},
            b"worker.py",
            silence=120.0,
            kinds=_kinds(machine, link, b"worker.py", b"adb_device.py"),
        )


@contextlib.contextmanager
def phone_board(folder: Path) -> Iterator[Board]:
    """A board through Android's adb server, without Python: `benchmark_model` measures."""
    with _device_side(folder) as (machine, link), AdbServerProcess(folder) as server:
        tool = folder / "benchmark_model"
        tool.write_text(TOOL)
        kinds = _kinds(machine, link, b"--graph=", b"adb_device.py")

        def restarted(victim: Victim, rng: random.Random) -> bool:
            server.kill()
            victim.sleep(rng.uniform(0.0, 5.0))
            server.start()
            return True

        yield Board(
            "phone",
            machine,
            {
                "transport": "adb",
                "serial": f"127.0.0.1:{link.port}",
                "server": True,
                "benchmark_model": str(tool),
                "workspace": str(machine.disk / "boardfit"),
            },
            {"HOME": str(folder / "host"), "ANDROID_ADB_SERVER_PORT": f"{server.port}"},
            b"--graph=",
            silence=340.0,  # an invocation may take 280 s
            kinds={**kinds, "adb server restarted": restarted},
        )


BOARDS: Mapping[str, Callable[[Path], contextlib.AbstractContextManager[Board]]] = {
    "ssh": ssh_board,
    "adb": adb_board,
    "phone": phone_board,
}


class AdbServerProcess:
    """Android's adb server, which can be killed and started again; a context manager."""

    def __init__(self, folder: Path) -> None:
        self.port = _free_port()
        self._home = folder / "adb"
        self._home.mkdir()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> AdbServerProcess:
        self.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        program = shutil.which("adb")
        if program is None:
            raise RuntimeError("there is no adb (Debian: `apt install adb`)")
        about = {"ADB_LOCAL_TRANSPORT_MAX_PORT": "5553", "ADB_MDNS": "0"}  # it looks for nobody
        self._process = subprocess.Popen(
            [program, "-P", f"{self.port}", "nodaemon", "server"],
            env={
                **about,
                "HOME": str(self._home),
                "TMPDIR": str(self._home),
                "PATH": os.environ["PATH"],
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self._home / "log").open("ab"),
        )
        _wait_until_open(self.port)

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _kinds(machine: Machine, link: SlowLink, work: bytes, server: bytes) -> dict[str, Kind]:
    """What every machine behind a link can suffer."""

    def lost(victim: Victim, rng: random.Random) -> bool:
        link.cut()
        return True

    def frozen(victim: Victim, rng: random.Random) -> bool:
        link.freeze()
        victim.sleep(rng.uniform(5.0, 90.0))
        link.thaw()
        return True

    def garbled(victim: Victim, rng: random.Random) -> bool:
        link.garble()
        return True

    def killed(victim: Victim, rng: random.Random) -> bool:
        return machine.signal(work, signal.SIGKILL) > 0

    def hung(victim: Victim, rng: random.Random) -> bool:
        return machine.signal(work, signal.SIGSTOP) > 0

    def uttered(victim: Victim, rng: random.Random) -> bool:
        return machine.utter(work, b"\xff" + rng.randbytes(31).replace(b"\n", b"\0") + b"\n") > 0

    def host_killed(victim: Victim, rng: random.Random) -> bool:
        victim.signal(signal.SIGKILL)
        return True

    def host_asleep(victim: Victim, rng: random.Random) -> bool:
        victim.signal(signal.SIGSTOP)
        victim.sleep(rng.uniform(5.0, 75.0))
        victim.signal(signal.SIGCONT)
        victim.heard()
        return True

    def full(victim: Victim, rng: random.Random) -> bool:
        machine.fill_disk()
        machine.signal(work, signal.SIGKILL)  # so that another one needs room
        victim.sleep(rng.uniform(1.0, 30.0))
        machine.free_disk()
        return True

    def server_restarted(victim: Victim, rng: random.Random) -> bool:
        return machine.signal(server, signal.SIGKILL) > 0

    def rebooted(victim: Victim, rng: random.Random) -> bool:
        machine.restart()
        return True

    return {
        "link lost": lost,
        "link frozen": frozen,
        "link garbled": garbled,
        "worker killed": killed,
        "worker hung": hung,
        "garbage line": uttered,
        "host killed": host_killed,
        "host asleep": host_asleep,
        "disk full": full,
        "server restarted": server_restarted,
        "reboot": rebooted,
    }


def _python(machine: Machine) -> dict[str, object]:
    return {"python": sys.executable, "workspace": str(machine.disk / "boardfit")}


@contextlib.contextmanager
def _device_side(folder: Path) -> Iterator[tuple[Machine, SlowLink]]:
    """A machine with the device side of ADB, and the link to it."""
    port = _free_port()
    (folder / "host").mkdir(parents=True)
    command = [sys.executable, str(DEVICE_SIDE), "--port", f"{port}", "--secure", "--allow"]
    with Machine(folder / "machine", command) as machine, SlowLink(port) as link:
        _wait_for(machine, port)
        yield machine, link


def _wait_for(machine: Machine, port: int) -> None:
    machine.wait_until(lambda: _is_open(port), "listen")


def _wait_until_open(port: int) -> None:
    deadline = time.monotonic() + 20
    while not _is_open(port):
        if time.monotonic() > deadline:
            raise RuntimeError(f"nothing listens on port {port}")
        time.sleep(0.02)


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
