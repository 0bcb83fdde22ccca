"""A board that is a made-up /sys and the shims beside: scripts that answer as the real tools do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pytest

from boardfit.devices.base import Completed
from boardfit.devices.local import LocalTransport

from . import tool_outputs as outputs

SHIMS = Path(__file__).parent / "shims"
NOBODY = 65534
TOOLS = {
    "raspberry_pi": ("vcgencmd", "sudo", "id"),
    "jetson": ("nvpmodel", "jetson_clocks", "tegrastats", "sudo", "id"),
    "android": ("dumpsys", "cmd", "getprop", "id"),
}
CPUFREQ = "sys/devices/system/cpu/cpufreq"

# /etc/nvpmodel.conf of a Jetson Orin Nano, shortened: in mode 1 two cores are off, and mode 3 (made
# up here, as AGX Orins have them) switches off another part of the GPU.
NVPMODEL_CONF = """\
# FORMAT:
# < PARAM TYPE=PARAM_TYPE NAME=PARAM_NAME >

< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online

< PARAM TYPE=FILE NAME=TPC_POWER_GATING >
TPC_PG_MASK /sys/devices/gpu.0/tpc_pg_mask

< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
TPC_POWER_GATING TPC_PG_MASK 0
CPU_A78_0 MAX_FREQ 1510400

< POWER_MODEL ID=1 NAME=7W >
CPU_ONLINE CORE_4 0
TPC_POWER_GATING TPC_PG_MASK 0

< POWER_MODEL ID=2 NAME=MAXN_SUPER >
TPC_POWER_GATING TPC_PG_MASK 0

< POWER_MODEL ID=3 NAME=MODE_50W >
TPC_POWER_GATING TPC_PG_MASK 1

< PM_CONFIG DEFAULT=0 >
"""


class OrdinaryUser(LocalTransport):
    """This machine, for a user who is not root also where the tests are."""

    def run(self, argv: Sequence[str], *, timeout: float) -> Completed:
        if os.geteuid() == 0:
            argv = ["setpriv", f"--reuid={NOBODY}", "--clear-groups", *argv]
        return super().run(argv, timeout=timeout)

    def push(self, local: Path, remote: PurePosixPath) -> None:
        super().push(local, remote)
        if os.geteuid() == 0:
            os.chown(remote, NOBODY, NOBODY)


@dataclass
class ShimmedBoard:
    """The folders of such a board, and the way to it."""

    folder: Path
    transport: LocalTransport = field(default_factory=LocalTransport)

    @property
    def root(self) -> str:
        return str(self.folder / "root")

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def workspace(self) -> PurePosixPath:
        # A space, which jetson_clocks cannot cope with, and what a shell would make more of.
        return PurePosixPath(self.folder / "work space; $(touch pwned)")

    @property
    def settings(self) -> Path:
        return Path(self.workspace) / "settings"

    def write(self, path: str, text: str) -> Path:
        """Write a file below the root, with the folders that it lies in."""
        file = Path(self.root) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def read(self, path: str) -> str:
        """A file below the root."""
        return (Path(self.root) / path).read_text().strip()

    def governors(self) -> dict[str, str]:
        """The governors of the policies that are there."""
        files = sorted((Path(self.root) / CPUFREQ).glob("policy*/scaling_governor"))
        return {file.parent.name: file.read_text().strip() for file in files}

    def log(self) -> list[str]:
        """What was done with the tools, in order."""
        log = self.state / "log"
        return log.read_text().splitlines() if log.exists() else []

    def set(self, name: str, text: str) -> None:
        """Write down what a shim is to answer."""
        (self.state / name).write_text(text)

    def user(self, name: str, *allowed: str) -> None:
        """From here on the board's user is this one, whom sudo allows these commands."""
        self.set("user", name)
        self.set("sudoers", "".join(f"{line}\n" for line in allowed))


def shimmed_board(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ShimmedBoard:
    """A board of a kind (`raspberry_pi`, `jetson`, `android`) in a folder of the test's own."""
    board = ShimmedBoard(folder / "board")
    programs = board.folder / "bin"
    for place in (programs, board.state):
        place.mkdir(parents=True)
    for tool in TOOLS[kind]:
        shutil.copy(SHIMS / tool, programs / tool)
    board.write("proc/sys/kernel/random/boot_id", "11111111-2222-3333-4444-555555555555\n")
    for policy in ("policy0", "policy4"):
        for name, text in {
            "scaling_governor": "schedutil",
            "scaling_available_governors": "performance powersave schedutil ",
            "scaling_min_freq": "729600",
            "scaling_max_freq": "1510400",
            "cpuinfo_max_freq": "1510400",
        }.items():
            board.write(f"{CPUFREQ}/{policy}/{name}", f"{text}\n")
    if kind == "jetson":
        board.write("etc/nvpmodel.conf", NVPMODEL_CONF)
        board.set("mode", "0\n")
        board.set("offline_in_1", "policy4\n")
    if kind == "android":
        board.set("getprop", "ro.build.version.sdk=34\n")
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SHIM_STATE", str(board.state))
    monkeypatch.setenv("SHIM_ROOT", board.root)
    return board


def stateful(board: ShimmedBoard) -> ShimmedBoard:
    """The board with what its tools say of its state: a Raspberry Pi is throttled, a phone lightly,
    a Jetson is busy."""
    board.write("proc/uptime", "4711.25 9000.00\n")
    board.write("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
    board.write("sys/class/thermal/thermal_zone0/temp", "48312\n")
    board.set("throttled", "0x50005")
    board.set("tegrastats", f"{outputs.TEGRASTATS_6}\n")
    board.set("dumpsys.thermalservice", outputs.THERMAL_XIAOMI)
    board.set("dumpsys.battery", outputs.BATTERY)
    return board
