"""Small files of a board, many in one command: /sys has a file for each number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import CommandFailed

if TYPE_CHECKING:  # what a `Device` is says `base.py`, which knows of settings
    from .base import Transport

_TIMEOUT = 20.0  # seconds; a sensor behind a slow bus takes a tenth of a second

# Only `read` and `printf`, which the shell has built in: a program for each file would disturb
# what is measured. Unquoted, a pattern is expanded, and with an empty IFS it is not split.
_READ = r"""
IFS=
for pattern in "$@"; do
  for file in $pattern; do
    value=
    { read -r value || [ -n "$value" ]; } 2>/dev/null <"$file" || continue
    printf '%s\000%s\000' "$file" "$value"
  done
done 2>/dev/null
:
"""


def first_lines(transport: Transport, *patterns: str) -> dict[str, str]:
    """The first line of each file that the patterns name, by its path, in the order found.

    Patterns are those of a shell (`*`, `?`, `[...]`). Files that are not there, that are empty or
    cannot be read are left out: some sensors answer "try again" for ever. Empty where the board has
    no shell. Raises `DeviceLost` and `DeviceTimeout`.
    """
    try:
        done = transport.run(["sh", "-c", _READ, "sh", *patterns], timeout=_TIMEOUT)
    except CommandFailed:
        return {}
    return parse_first_lines(done.stdout)


def parse_first_lines(data: bytes) -> dict[str, str]:
    """Paths and lines, each ended by a NUL, as a dictionary; half a pair at the end is dropped."""
    words = data.decode(errors="replace").split("\0")[:-1]
    pairs = zip(words[::2], words[1::2], strict=False)
    return {path: value.strip() for path, value in pairs if value.strip()}


def number(text: str | None) -> float | None:
    """The number that a file of /sys holds, or None where it holds something else."""
    text = (text or "").strip()
    # No float(text) of anything: 'nan', '1_000' and '٣' are numbers to Python.
    if len(text) > 24 or not text.isascii() or not text.replace(".", "", 1).lstrip("-").isdigit():
        return None
    try:
        return float(text)
    except ValueError:  # two signs
        return None


def is_plausible(celsius: float) -> bool:
    """Whether a temperature can be one: sensors that are switched off say -256, -40 or 0.

    So does one that counts in something else than what it should.
    """
    return celsius != 0.0 and -40.0 < celsius < 150.0
