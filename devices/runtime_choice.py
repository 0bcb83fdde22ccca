"""Which runtime a board's Python can have: what it says about itself, and what follows from it.

The wheels' needs were found by running them: ai-edge-litert's wheels for arm64 need glibc 2.34 from
2.1.1 on, whatever their names say, and those of tflite-runtime 2.14.0 need it on every ARM.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import DeviceError

PIWHEELS = "https://www.piwheels.org/simple"  # NumPy for armv7l, which PyPI lacks
_NEWER_GLIBC = (2, 34)
_LITERT = "ai-edge-litert==2.3.0"
_LITERT_PYTHONS = ((3, 10), (3, 14))
_OLD_LITERT = "ai-edge-litert==2.1.0"  # for glibc 2.27 to 2.33
_OLD_LITERT_PYTHONS = ((3, 9), (3, 13))
_OLD_LITERT_GLIBC = (2, 27)
_TFLITE = ("tflite-runtime==2.14.0", "numpy<2")
_TFLITE_PYTHONS = ((3, 8), (3, 11))
OLDEST_PYTHON = (3, 8)  # the worker's

# Run on the board. Each runtime is imported, since a wheel may be there and not fit the system; the
# folder it is called in is left out, as it is for the worker.
PROBE = """
import json, os, platform, sys
sys.path[:] = [place for place in sys.path if place]
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION")
except (AttributeError, OSError, ValueError):
    libc = None
found = {"python": list(sys.version_info[:3]), "bits": 64 if sys.maxsize > 2 ** 32 else 32,
         "machine": platform.machine(), "system": platform.system(), "libc": libc,
         "implementation": platform.python_implementation(), "versions": {}, "problems": {}}
try:
    from importlib import metadata
except ImportError:
    metadata = None
for name, module in (("numpy", "numpy"), ("ai-edge-litert", "ai_edge_litert.interpreter"),
                     ("tflite-runtime", "tflite_runtime.interpreter"),
                     ("onnxruntime", "onnxruntime")):
    try:
        found["versions"][name] = metadata.version(name) if metadata else ""
    except Exception:
        continue
    try:
        __import__(module)
    except BaseException as error:
        found["problems"][name] = (type(error).__name__ + ": " + str(error))[-300:]
print(json.dumps(found))
"""


@dataclass(frozen=True)
class BoardPython:
    """A board's interpreter: versions, what it runs on, and which packages it has.

    `machine` is what the interpreter is for (armv7l also where a 32-bit one runs on a 64-bit
    kernel), `glibc` its C library (`None`: another one). `versions` are those of installed
    packages, `problems` the words of those that cannot be imported.
    """

    version: tuple[int, int, int]
    machine: str
    system: str
    glibc: tuple[int, int] | None
    versions: Mapping[str, str] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)

    @property
    def minor(self) -> tuple[int, int]:
        """The version without its last number."""
        return self.version[:2]

    def __str__(self) -> str:
        """For people: Python 3.11.2 for aarch64, glibc 2.36."""
        version = ".".join(map(str, self.version))
        library = f", glibc {self.glibc[0]}.{self.glibc[1]}" if self.glibc else ""
        return f"Python {version} for {self.machine}{library}"

    def usable(self, name: str) -> bool:
        """Whether a package is there and can be imported."""
        return name in self.versions and name not in self.problems


@dataclass(frozen=True)
class RuntimeChoice:
    """What is installed on a board, as pip's requirements; `index` is a further index of wheels,
    `why` the reason where it is not the newest."""

    requirements: tuple[str, ...]
    index: str | None = None
    why: str = ""

    def __str__(self) -> str:
        return " ".join(self.requirements)


def parse_probe(text: str | None) -> BoardPython | None:
    """What `PROBE` printed, in its last line; `None` where that is something else."""
    lines = (text or "").strip().splitlines()
    try:
        said: Any = json.loads(lines[-1]) if lines else None
        major, minor, micro = said["python"]
        version = (_whole(major), _whole(minor), _whole(micro))
        machine, bits = str(said["machine"])[:40], said["bits"]
        found = re.fullmatch(
            r"glibc (\d{1,3})\.(\d{1,4})(?:\.\d{1,4})?", said["libc"] or "", re.ASCII
        )
        return BoardPython(
            version,
            "armv7l" if machine == "aarch64" and bits == 32 else machine,
            str(said["system"])[:40],
            (int(found[1]), int(found[2])) if found else None,
            _words(said["versions"]),
            _words(said["problems"]),
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1000:
        raise ValueError("no version")
    return value


def _words(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError("no table")
    return {str(name)[:80]: str(text)[:400] for name, text in value.items()}


def choose_runtime(python: BoardPython) -> RuntimeChoice:
    """What to install for this interpreter.

    Raises `DeviceError` with the reason and the next step where nothing fits it.
    """
    if python.system != "Linux":
        raise DeviceError(
            f"runtimes are prepared for Linux boards, and this one runs {python.system!r}; install "
            "one there by hand: pip install ai-edge-litert"
        )
    if python.glibc is None:
        raise DeviceError(
            "the board's Python does not run on glibc (Alpine Linux and Android do not), and no "
            "runtime has wheels for that; use a system with glibc, such as Debian"
        )
    if python.machine == "armv7l":
        return _for_armv7(python)
    if python.machine not in {"aarch64", "x86_64"}:
        raise DeviceError(
            f"no runtime has wheels for {python.machine}; there are some for aarch64, x86_64 and "
            "armv7l"
        )
    if python.machine == "x86_64" or python.glibc >= _NEWER_GLIBC:
        _check_python(python, _LITERT, _LITERT_PYTHONS)
        return RuntimeChoice((_LITERT,))
    if python.glibc < _OLD_LITERT_GLIBC:
        raise DeviceError(
            f"{python} is too old: ai-edge-litert needs glibc 2.27; install a newer system"
        )
    _check_python(python, _OLD_LITERT, _OLD_LITERT_PYTHONS)
    return RuntimeChoice((_OLD_LITERT,), why="later ones need glibc 2.34 on arm64")


def _for_armv7(python: BoardPython) -> RuntimeChoice:
    assert python.glibc is not None
    if python.glibc < _NEWER_GLIBC:
        raise DeviceError(
            f"{python} is too old: tflite-runtime, the only one for 32-bit ARM, needs glibc 2.34; "
            "install a newer system (Raspberry Pi OS 12), best the 64-bit one"
        )
    _check_python(python, _TFLITE[0], _TFLITE_PYTHONS)
    return RuntimeChoice(_TFLITE, PIWHEELS, why="no other runtime has wheels for 32-bit ARM")


def _check_python(
    python: BoardPython, requirement: str, range_: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    oldest, newest = range_
    if not oldest <= python.minor <= newest:
        low, high = (".".join(map(str, version)) for version in range_)
        raise DeviceError(
            f"{requirement} has wheels for Python {low} to {high}, and the board has {python}; "
            "install one of these there, and name it as `python` in boards.toml"
        )


def platform_tags(python: BoardPython) -> tuple[str, ...]:
    """The platforms whose wheels this interpreter takes, as pip's `--platform`, the newest first.

    Raises ValueError without glibc.
    """
    if python.glibc is None:
        raise ValueError("wheels for Linux are tagged by glibc")
    major, minor = python.glibc
    oldest = 5 if python.machine == "x86_64" else 17
    tags = [
        f"manylinux_{major}_{number}_{python.machine}" for number in range(minor, oldest - 1, -1)
    ]
    legacy = ["manylinux2014"] if minor >= 17 else []
    if python.machine == "x86_64":
        legacy += ["manylinux2010", "manylinux1"]
    return (*tags, *(f"{name}_{python.machine}" for name in legacy), f"linux_{python.machine}")


def fulfils(choice: RuntimeChoice, python: BoardPython) -> bool:
    """Whether an interpreter has what was chosen, and can import it."""
    for requirement in (*choice.requirements, "numpy"):
        name, exactly, version = requirement.partition("==")
        name, _, below = name.partition("<")
        if not python.usable(name):
            return False
        found = python.versions[name]
        if (exactly and found != version) or (below and found.split(".")[0] >= below):
            return False
    return True
