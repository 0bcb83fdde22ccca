"""Boards for the doctor: folders with what real boards show, and shims that say what they say.

Nothing but the shims and a few small programs of this machine is on their PATH. Each is reached
by the transport `local`, in a boardfit process of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .shimmed_board import NVPMODEL_CONF, SHIMS

OWN = Path(__file__).parent / "board_shims"
PLACED = ("cat", "test", "mkdir", "rm", "sh")
PLAIN = ("true", "sed", "grep", "sleep", "tee")
CPU = "sys/devices/system/cpu"


@dataclass(frozen=True)
class DoctorBoard:
    """What a board shows: files below its root, state of the shims, tools, and its inventory."""

    toml: str
    files: Mapping[str, str]
    state: Mapping[str, str]
    tools: Sequence[str] = ()
    programs: Mapping[str, bytes] = field(default_factory=dict)


def cores(count: int, first: int, hertz: int, capacity: int) -> dict[str, str]:
    """The files of so many equal cores."""
    found = {}
    for core in range(first, first + count):
        found[f"{CPU}/cpu{core}/cpu_capacity"] = f"{capacity}\n"
        found[f"{CPU}/cpu{core}/cpufreq/cpuinfo_max_freq"] = f"{hertz // 1000}\n"
    return found


def policy(first: int, hertz: int, governor: str, allowed: int | None = None) -> dict[str, str]:
    """The files of the cores that share a clock."""
    base = f"{CPU}/cpufreq/policy{first}"
    return {
        f"{base}/scaling_governor": f"{governor}\n",
        f"{base}/cpuinfo_max_freq": f"{hertz // 1000}\n",
        f"{base}/scaling_max_freq": f"{(allowed or hertz) // 1000}\n",
    }


def board(model: str, compatible: str, system: str, count: int) -> dict[str, str]:
    """What names the board."""
    return {
        "proc/device-tree/model": f"{model}\0",
        "proc/device-tree/compatible": compatible,
        "etc/os-release": f'PRETTY_NAME="{system}"\n' if system else "",
        "proc/cpuinfo": "".join(f"processor\t: {core}\n" for core in range(count)),
        "proc/meminfo": "MemTotal:        8245416 kB\n",
        "proc/loadavg": "0.08 0.03 0.01 1/189 2301\n",
        f"{CPU}/online": f"0-{count - 1}\n",
    }


def python(version: Sequence[int], libc: str, machine: str = "aarch64", **packages: str) -> str:
    """What an interpreter says of itself."""
    said = {
        "python": list(version),
        "bits": 64,
        "machine": machine,
        "system": "Linux",
        "libc": libc,
        "implementation": "CPython",
        "versions": {name.replace("_", "-"): text for name, text in packages.items()},
        "problems": {},
    }
    return json.dumps(said) + "\n"


def disk(place: str, size: int, free: int) -> str:
    """What `df -Pk` says; sizes in bytes."""
    used = (size - free) // 1024
    return (
        "Filesystem     1024-blocks     Used Available Capacity Mounted on\n"
        f"/dev/root {size // 1024} {used} {free // 1024} {100 * used * 1024 // size}% {place}\n"
    )


def zone(number: int, name: str, celsius: float) -> dict[str, str]:
    """The files of a thermal zone."""
    base = f"sys/class/thermal/thermal_zone{number}"
    return {f"{base}/type": f"{name}\n", f"{base}/temp": f"{round(celsius * 1000)}\n"}


# ELF for 64-bit ARM, as far as its header says it.
ARM64_PROGRAM = (
    b"\x7fELF\x02\x01\x01" + bytes(9) + (3).to_bytes(2, "little") + b"\xb7\0" + bytes(44)
)

RASPBERRY_PI = DoctorBoard(
    """
[boards.pi5]
transport = "local"
python = "python3"
workspace = "/home/pi/boardfit"
cluster = "all"
soc = "bcm2712"
""",
    {
        **board(
            "Raspberry Pi 5 Model B Rev 1.0",
            "raspberrypi,5-model-b\0brcm,bcm2712\0",
            "Debian GNU/Linux 12 (bookworm)",
            4,
        ),
        **cores(4, 0, 2_400_000_000, 1024),
        **policy(0, 2_400_000_000, "ondemand"),
        **zone(0, "cpu-thermal", 61.2),
        "home/pi/.profile": "",
    },
    {
        "user": "pi",
        "throttled": "0x50005",
        "machine": "aarch64",
        "df": disk("/", 31_000_000_000, 22_400_000_000),
        "python": python((3, 11, 2), "glibc 2.36"),
    },
    ("vcgencmd", "sudo", "id"),
)
JETSON = DoctorBoard(
    """
[boards.orin]
transport = "local"
python = "python3"
workspace = "/home/lab/boardfit"
cluster = "all"
settings = { jetson_clocks = true }
""",
    {
        **board(
            "NVIDIA Jetson Orin Nano Developer Kit",
            "nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0",
            "Ubuntu 20.04.6 LTS",
            6,
        ),
        **cores(6, 0, 1_510_400_000, 1024),
        **policy(0, 1_510_400_000, "schedutil"),
        f"{CPU}/cpufreq/policy0/scaling_min_freq": "729600\n",
        **zone(0, "cpu-thermal", 49.5),
        "etc/nvpmodel.conf": NVPMODEL_CONF,
        "home/lab/boardfit/worker-0123456789abcdef/worker.py": "",
    },
    {
        "user": "lab",
        "mode": "0\n",
        "machine": "aarch64",
        "tegrastats": "RAM 3456/7620MB cpu@49.5C tj@50.1C VDD_IN 5000mW/4900mW\n",
        "df": disk("/", 62_000_000_000, 420_000_000),
        "python": python((3, 9, 5), "glibc 2.31"),
    },
    ("nvpmodel", "jetson_clocks", "tegrastats", "sudo", "id"),
)
PIXEL = DoctorBoard(
    """
[boards.pixel]
transport = "local"
workspace = "/data/local/tmp/boardfit"
cluster = "big"
benchmark_model = "~/benchmark_model"
settings = { fixed_performance = true }
""",
    {
        **board("", "", "", 8),
        **cores(4, 0, 1_803_000_000, 250),
        **cores(2, 4, 2_253_000_000, 620),
        **cores(2, 6, 2_802_000_000, 1024),
        **policy(0, 1_803_000_000, "sched_pixel"),
        **policy(4, 2_253_000_000, "sched_pixel"),
        **policy(6, 2_802_000_000, "sched_pixel", 2_401_000_000),
        "proc/device-tree/compatible": "google,GS101\0",
        "data/local/tmp/boardfit/.boardfit-0011223344556677": "",
    },
    {
        "user": "shell",
        "machine": "aarch64",
        "getprop": "ro.build.version.sdk=34\nro.product.cpu.abilist=arm64-v8a,armeabi-v7a\n",
        "df": disk("/data", 118_000_000_000, 84_000_000_000),
        "dumpsys.battery": (
            "Current Battery Service state:\n  AC powered: false\n  USB powered: true\n"
            "  present: true\n  level: 84\n  scale: 100\n  temperature: 312\n"
        ),
        "dumpsys.power": "POWER MANAGER (dumpsys power)\n\n  mWakefulness=Awake\n",
        "dumpsys.thermalservice": (
            "IsStatusOverride: false\nThermal Status: 1\nHAL Ready: true\n"
            "Current temperatures from HAL:\n"
            "\tTemperature{mValue=57.9, mType=0, mName=CPU, mStatus=0}\n"
            "\tTemperature{mValue=39.351, mType=3, mName=VIRTUAL-SKIN, mStatus=1}\n"
        ),
    },
    ("dumpsys", "cmd", "getprop", "id"),
    {"benchmark_model": ARM64_PROGRAM},
)
LINUX = DoctorBoard(
    """
[boards.nuc]
transport = "local"
python = "python3"
workspace = "/home/lab/boardfit"
cluster = "all"
""",
    {
        **board("", "", "Ubuntu 24.04.1 LTS", 4),
        "proc/cpuinfo": "".join(
            f"processor\t: {core}\nmodel name\t: Intel(R) N100\n\n" for core in range(4)
        ),
        **cores(4, 0, 3_400_000_000, 1024),
        **policy(0, 3_400_000_000, "performance"),
        **zone(0, "x86_pkg_temp", 44.0),
        f"{CPU}/cpu0/thermal_throttle/package_throttle_count": "0\n",
        "home/lab/boardfit/.keep": "",
    },
    {
        "user": "root",
        "machine": "x86_64",
        "df": disk("/", 500_000_000_000, 312_000_000_000),
        "python": python((3, 12, 3), "glibc 2.39", "x86_64", ai_edge_litert="2.3.0", numpy="2.2.1"),
    },
    ("id",),
)
DOCTOR_BOARDS: Mapping[str, DoctorBoard] = {
    "pi5": RASPBERRY_PI,
    "orin": JETSON,
    "pixel": PIXEL,
    "nuc": LINUX,
}


@dataclass(frozen=True)
class Built:
    """A board of these in a folder, and boardfit processes that see nothing else."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def boardfit(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run boardfit with the board as `local`."""
        return subprocess.run(
            [sys.executable, "-m", "boardfit", *arguments],
            cwd=self.folder,
            env={
                **{name: text for name, text in os.environ.items() if name != "PATH"},
                "PATH": str(self.folder / "bin"),
                "HOME": str(self.folder),
                "BOARDFIT_BOARDS": str(self.folder / "boards.toml"),
                "SHIM_ROOT": str(self.root),
                "SHIM_STATE": str(self.folder / "state"),
                "SHIM_BIN": str(self.folder / "bin"),
                "COLUMNS": "100",
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


def build(what: DoctorBoard, folder: Path) -> Built:
    """Make a board in a folder."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    for name in PLACED:
        shutil.copy(OWN / "placed", programs / name)
    for name in ("df", "python3", "uname"):
        shutil.copy(OWN / name, programs / name)
    for name in what.tools:
        shutil.copy(SHIMS / name, programs / name)
    for name in PLAIN:
        (programs / name).symlink_to(shutil.which(name) or name)
    for path, text in what.files.items():
        file = folder / "root" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (folder / "state").mkdir()
    for name, text in what.state.items():
        (folder / "state" / name).write_text(text)
    for name, data in what.programs.items():
        (folder / name).write_bytes(data)
    (folder / "boards.toml").write_text(what.toml)
    return Built(folder)
