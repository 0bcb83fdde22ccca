"""A program of this machine that is to run on a board: read, and checked for its processor."""

from __future__ import annotations

import struct
from pathlib import Path

from ..devices.errors import InputError

_PROGRAM_LIMIT = 256 * 1024 * 1024  # bytes; TFLite's tool has 5 to 30 million
_MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
_RUNS_ON = {  # what `uname -m` says, and what runs there
    "aarch64": ("aarch64", "arm"),
    "arm64": ("aarch64", "arm"),
    "armv8l": ("aarch64", "arm"),
    "armv7l": ("arm",),
    "armv6l": ("arm",),
    "x86_64": ("x86_64", "i386"),
    "i686": ("i386",),
    "riscv64": ("riscv64",),
}


def read_program(path: Path) -> bytes:
    """The bytes of a program that is to be pushed. Raises `InputError`."""
    if not path.is_file():
        raise InputError(f"there is no program {path}; check --benchmark-model or boards.toml")
    try:
        with path.open("rb") as file:
            data = file.read(_PROGRAM_LIMIT + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > _PROGRAM_LIMIT:
        raise InputError(f"{path} has more than {_PROGRAM_LIMIT} bytes; is it benchmark_model?")
    return data


def check_architecture(path: Path, data: bytes, machine: str | None, device: str) -> None:
    """Raise `InputError` where a program is none, or is for another processor than `machine` (the
    board's `uname -m`). A script, beginning with `#!`, may be a wrapper and runs anywhere."""
    if data.startswith(b"#!"):
        return
    if not data.startswith(b"\x7fELF") or len(data) < 20:
        raise InputError(
            f"{path} is no program for Linux or Android (it is neither ELF nor a script); give "
            "the binary itself, not an archive or an app"
        )
    order = ">" if data[5] == 2 else "<"
    (number,) = struct.unpack_from(f"{order}H", data, 18)
    built_for = _MACHINES.get(number, f"machine {number}")
    possible = _RUNS_ON.get(machine or "")
    if possible is not None and built_for not in possible:
        raise InputError(
            f"{path} is built for {built_for}, and {device} is {machine}; give --benchmark-model a "
            f"build for {possible[0]}"
        )
