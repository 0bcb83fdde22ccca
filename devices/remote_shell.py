"""How a command is given to a board's shell: quoted here and nowhere else.

Remote boards are given one text that a POSIX shell reads (`sshd` hands it to the user's login
shell, Android to mksh). What a user, a file or another board named is data in it, never syntax.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

NO_PROGRAM = 127  # the exit code of a POSIX shell for it; a program may end with it, too
_MISSING = "boardfit: no such program"


def command_line(argv: Sequence[str]) -> str:
    """The text that makes a POSIX shell run `argv`, each argument arriving as it is.

    Raises ValueError for a NUL byte, which no argument can hold, and for no words at all.
    """
    if not argv:
        raise ValueError("a command has at least a name")
    if any("\0" in word for word in argv):
        raise ValueError("an argument cannot hold a NUL byte")
    return shlex.join(argv)


def checked_command_line(argv: Sequence[str]) -> str:
    """As `command_line`, for a shell that first says whether there is such a program.

    Where there is none it writes a sentence of ours to stderr and ends with `NO_PROGRAM`
    (`names_missing_program`), so that a program that ends with that code is not taken for a
    missing one. The program replaces the shell: a signal meets it and not a shell in front of it.
    """
    return _checked(argv, "")


def announcing_command_line(argv: Sequence[str]) -> str:
    """As `checked_command_line`, for a shell that also writes a line with the number of the
    program's process to stderr, before anything that the program writes there."""
    return _checked(argv, "echo $$ >&2; ")


def kill_line(number: int) -> str:
    """The text that makes a shell end the process of that number and its group, whatever they
    do."""
    return f"kill -9 -{number:d} 2>/dev/null || kill -9 {number:d} 2>/dev/null"


def _checked(argv: Sequence[str], before: str) -> str:
    line = command_line(argv)
    missing = f"echo '{_MISSING}' >&2; exit {NO_PROGRAM}"
    if argv[0].startswith("-"):  # an option for `command` and `exec`; dash's has no `--`
        return missing
    there = f"command -v {shlex.quote(argv[0])} >/dev/null"
    return f"{there} || {{ {missing}; }}; {before}exec {line}"


def names_missing_program(code: int, stderr: bytes | bytearray) -> bool:
    """Whether a shell that was given `checked_command_line` found no such program."""
    return code == NO_PROGRAM and stderr.strip() == _MISSING.encode()
