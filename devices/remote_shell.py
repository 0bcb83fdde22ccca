"""How a command is given to a board's shell: quoted here and nowhere else.

Remote boards are given one text that a POSIX shell reads (`sshd` hands it to the user's login
shell, Android to mksh). What a user, a file or another board named is data in it, never syntax.
"""

from __future__ import annotations

import os
import re
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
    line = command_line(argv)
    return f"{_or_missing(argv)}exec {line}"


def announced_command_line(argv: Sequence[str], mark: str) -> str:
    """As `checked_command_line`, for a shell that also says where the program's output begins.

    It writes a line `MARK` to stderr at once, and `MARK PID` to stdout as soon as it found the
    program; PID is the process group of all that follows, where the shell leads one. The shell
    stays in front of the program, whose end by a signal it turns into the exit code 128 + signal.
    """
    line = command_line(argv)
    return f"echo {mark} >&2; {_or_missing(argv)}echo {mark} $$; (exec {line}); exit $?"


def for_any_shell(script: str) -> bytes:
    """The text that makes any login shell, also csh and fish, have /bin/sh run a script.

    They quote in different ways, but agree on single quotes around text without quotes,
    backslashes at ends, newlines and `!`. So those travel as octal numbers, which `printf`
    undoes: POSIX has it in every shell.
    """
    # os.fsencode: names of files that are no UTF-8 come from the file system as they are.
    encoded = re.sub(
        rb"[^A-Za-z0-9 _./:=,@+-]", lambda found: b"\\0%03o" % found[0][0], os.fsencode(script)
    )
    return b'exec /bin/sh -c \'eval "$(printf %b "' + encoded + b'")"\''


def _or_missing(argv: Sequence[str]) -> str:
    """The part of a line that ends the shell where there is no such program."""
    missing = f"echo '{_MISSING}' >&2; exit {NO_PROGRAM}"
    if argv[0].startswith("-"):  # an option for `command` and `exec`; dash's has no `--`
        return f"{{ {missing}; }}; "
    return f"command -v {shlex.quote(argv[0])} >/dev/null || {{ {missing}; }}; "


def names_missing_program(code: int, stderr: bytes) -> bool:
    """Whether a shell that was given `checked_command_line` found no such program."""
    return code == NO_PROGRAM and stderr.strip() == _MISSING.encode()
