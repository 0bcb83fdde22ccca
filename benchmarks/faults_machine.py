"""A small Linux machine that can be switched off, for boards that fail for real: needs root.

It has namespaces of its own: its processes die with it; its clocks begin when it starts, and its
kernel draws another boot identifier then; its disk is small, and outlasts a restart; its /tmp does
not; its cores have a clock governor, which is the default one after each start. A server (sshd,
adbd) runs there, and is started again a second after it ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

GOVERNOR = "schedutil"  # after a start
GOVERNORS = "performance powersave schedutil"
DISK = 24 * 1024 * 1024  # bytes
_STARTING = 30.0  # seconds
_PATIENCE = 20.0  # seconds for processes to end
_CPU = Path("/sys/devices/system/cpu")
_PIDFD_GETFD = 438  # the number of this system call is the same on all processors

# $1: the machine's folder, $2: bytes of its disk, $3: the script of a start; then the server.
_POWER = """
set -e
folder=$1
mount -t tmpfs -o "size=$2" tmpfs "$folder/disk"
start=$3
shift 3
while [ ! -e "$folder/off" ]; do
  read -r up rest </proc/uptime
  cat /proc/sys/kernel/random/uuid >"$folder/boot_id"
  unshare --mount --pid --time --boottime "-${up%.*}" --monotonic "-${up%.*}" \\
    --fork --kill-child=KILL sh -c "$start" sh "$folder" "$@" || true
  sleep 1
done
"""
_START = f"""
folder=$1
shift
mount -t proc proc /proc
mount --bind "$folder/boot_id" /proc/sys/kernel/random/boot_id
mount --bind "$folder/cpu" {_CPU}
mount -t tmpfs -o size=4m,mode=1777 tmpfs /tmp
for file in {_CPU}/cpufreq/policy*/scaling_governor; do echo {GOVERNOR} >"$file"; done
while :; do
  "$@" </dev/null >>"$folder/server.log" 2>&1
  sleep 1
done
"""


def can_be_made() -> bool:
    """Whether this user may make such machines here."""
    if not all(map(shutil.which, ("unshare", "setpriv", "mount"))) or not _CPU.is_dir():
        return False
    probe = ["unshare", "--mount", "--pid", "--time", "--boottime", "0", "--fork", "true"]
    return subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode == 0


class Machine:
    """The machine in a folder, which must not lie in /tmp; a context manager that ends it."""

    def __init__(self, folder: Path, server: Sequence[str]) -> None:
        if folder.is_relative_to("/tmp"):
            raise ValueError("the machine has a /tmp of its own, and sees nothing of this one")
        self.folder = folder
        self._server = server
        for place in ("disk", "cpu/cpufreq/policy0"):
            (folder / place).mkdir(parents=True)
        for file in _CPU.iterdir():  # online, possible, ...: runtimes look for them
            if file.is_file() and os.access(file, os.R_OK):
                with contextlib.suppress(OSError):
                    (folder / "cpu" / file.name).write_bytes(file.read_bytes())
        for core in range(os.cpu_count() or 1):
            (folder / "cpu" / f"cpu{core}").mkdir()
            (folder / "cpu" / f"cpu{core}" / "cpufreq").symlink_to("../cpufreq/policy0")
        self._policy = folder / "cpu/cpufreq/policy0"
        for name, text in {
            "scaling_governor": GOVERNOR,
            "scaling_available_governors": GOVERNORS,
            "scaling_min_freq": "600000",
            "scaling_max_freq": "2400000",
            "cpuinfo_max_freq": "2400000",
        }.items():
            (self._policy / name).write_text(f"{text}\n")
        self._power: subprocess.Popen[bytes] | None = None

    @property
    def disk(self) -> Path:
        """The folder that is its disk, seen from inside."""
        return self.folder / "disk"

    def __enter__(self) -> Self:
        # Nothing of it outlives this process, however that ends.
        holder = ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--pid", "--fork"]
        words = [*holder, "--kill-child=KILL", "sh", "-c", _POWER, "sh"]
        self._power = subprocess.Popen(
            [*words, str(self.folder), str(DISK), _START, *self._server],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "power.log").open("wb"),
        )
        self.wait_until(lambda: bool(self.processes()), "start")
        return self

    def __exit__(self, *reason: object) -> None:
        if self._power is not None:
            self._power.kill()
            for process in _children(self._power.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            self._power.wait(_PATIENCE)

    def wait_until(self, true: Callable[[], bool], what: str) -> None:
        """Wait until something is so. Raises RuntimeError where it does not become so."""
        deadline = time.monotonic() + _STARTING
        while not true():
            if time.monotonic() > deadline:
                words = (self.folder / "power.log").read_text()[-500:]
                raise RuntimeError(f"the machine in {self.folder} does not {what}: {words}")
            time.sleep(0.02)

    @property
    def governor(self) -> str:
        """The governor of its cores."""
        return (self._policy / "scaling_governor").read_text().strip()

    def processes(self) -> list[int]:
        """The numbers, here, of what runs there; the first started it all."""
        if self._power is None:
            return []
        for power in _children(self._power.pid):
            for unshare in _children(power):
                for first in _children(unshare):
                    return sorted(_in_space_of(first), key=lambda number: number != first)
        return []

    def running(self, word: bytes) -> list[int]:
        """The processes with a word in their arguments."""
        found = []
        for process in self.processes()[1:]:
            with contextlib.suppress(OSError):
                if any(word in argument for argument in _arguments(process)):
                    found.append(process)
        return found

    def signal(self, word: bytes, number: signal.Signals) -> int:
        """Signal the processes with a word in their arguments; how many there were."""
        found = self.running(word)
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
        return len(found)

    def restart(self) -> None:
        """Cut its power; it starts again a second later."""
        boot = (self.folder / "boot_id").read_text()
        for first in self.processes()[:1]:
            os.kill(first, signal.SIGKILL)
        self.wait_until(lambda: (self.folder / "boot_id").read_text() != boot, "start again")

    def fill_disk(self) -> None:
        """Leave no byte free on its disk."""
        with contextlib.suppress(OSError), self._inside("filler").open("wb", 0) as filler:
            while filler.write(bytes(4096)):
                pass

    def free_disk(self) -> None:
        """Remove what fills its disk."""
        with contextlib.suppress(OSError):
            self._inside("filler").unlink(missing_ok=True)

    def utter(self, word: bytes, line: bytes) -> int:
        """Write a line into the standard output of the processes with a word in their arguments;
        how many there were."""
        found = self.running(word)
        for process in found:
            with contextlib.suppress(OSError), _output_of(process) as output:
                os.write(output, line)
        return len(found)

    def _inside(self, name: str) -> Path:
        first = self.processes()[:1]
        if not first:
            raise FileNotFoundError("the machine is off")
        return Path(f"/proc/{first[0]}/root{self.disk}") / name


def _children(process: int) -> list[int]:
    try:
        words = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    return [int(word) for word in words]


def _in_space_of(first: int) -> list[int]:
    """The processes that are in the same world as the first of it."""
    found = []
    with contextlib.suppress(OSError):
        world = os.readlink(f"/proc/{first}/ns/pid")
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(entry / "ns/pid") == world:
                    found.append(int(entry.name))
    return found


def _arguments(process: int) -> list[bytes]:
    return Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")


@contextlib.contextmanager
def _output_of(process: int) -> Iterator[int]:
    """A descriptor of another process's standard output."""
    held = os.pidfd_open(process)
    try:
        output = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, held, 1, 0)
        if output < 0:
            raise OSError(ctypes.get_errno(), "no descriptor")
        try:
            yield output
        finally:
            os.close(output)
    finally:
        os.close(held)
