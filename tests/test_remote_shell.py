"""Whatever an argument holds, a POSIX shell hands it on as it is."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boardfit.devices.remote_shell import (
    announced_command_line,
    checked_command_line,
    command_line,
    for_any_shell,
    names_missing_program,
)

SHELLS = [shell for shell in ("sh", "dash", "bash", "mksh") if shutil.which(shell)]
ANY_SHELLS = [*SHELLS, *(shell for shell in ("zsh", "csh", "tcsh", "fish") if shutil.which(shell))]
PRINT = [sys.executable, "-I", "-S", "-c", "import json, sys; print(json.dumps(sys.argv[1:]))"]
NO_NUL = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


def given_to(shell: str, line: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run([shell, "-c", line], capture_output=True, check=False)


@pytest.mark.parametrize("shell", SHELLS)
@given(st.lists(NO_NUL, max_size=4))
def test_arguments_arrive_as_they_are(shell: str, arguments: list[str]) -> None:
    for line in (command_line([*PRINT, *arguments]), checked_command_line([*PRINT, *arguments])):
        assert json.loads(given_to(shell, line).stdout) == arguments


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("name", ["no such program", "$(true)", "-v", "--", "", "a;b", "/no/such"])
def test_a_missing_program_is_told_from_one_that_ends_alike(shell: str, name: str) -> None:
    missing = given_to(shell, checked_command_line([name, "argument"]))
    assert names_missing_program(missing.returncode, missing.stderr)
    there = given_to(shell, checked_command_line(["sh", "-c", "exit 127"]))
    assert there.returncode == 127
    assert not names_missing_program(there.returncode, there.stderr)


@given(NO_NUL)
def test_no_shell_reads_anything_into_a_script(script: str) -> None:
    # A csh takes ! also between single quotes, and fish a backslash before one.
    words = (
        rb"""exec /bin/sh -c 'eval "\$\(printf %b "((?:[A-Za-z0-9 _./:=,@+-]|\\0[0-7]{3})*)"\)"'"""
    )
    found = re.fullmatch(words, for_any_shell(script))
    assert found is not None
    meant = re.sub(rb"\\0([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), found[1])
    assert meant == script.encode()


@pytest.mark.parametrize("shell", ANY_SHELLS)
@settings(max_examples=25)
@given(st.lists(NO_NUL, max_size=4))
def test_arguments_arrive_through_any_login_shell(shell: str, arguments: list[str]) -> None:
    script = announced_command_line([*PRINT, *arguments], "mark")
    done = subprocess.run([shell, "-c", for_any_shell(script)], capture_output=True, check=True)
    mark, said = done.stdout.split(b"\n", 1)
    assert mark.startswith(b"mark ")
    assert json.loads(said) == arguments
    assert done.stderr == b"mark\n"


@pytest.mark.parametrize("shell", ANY_SHELLS)
def test_a_process_is_announced_with_its_group_and_ends_as_it_ended(shell: str) -> None:
    def run(*argv: str) -> "subprocess.CompletedProcess[bytes]":
        line = for_any_shell(announced_command_line(argv, "mark"))
        return subprocess.run([shell, "-c", line], capture_output=True, start_new_session=True)

    done = run("sh", "-c", "ps -o pgid= -p $$; exit 5")
    assert done.returncode == 5
    mark, group = done.stdout.split(b"\n")[:2]
    assert mark.split()[1] == group.strip()
    assert run("sh", "-c", "kill -KILL $$").returncode == 128 + 9
    missing = run("no such program")
    assert missing.stdout == b""
    assert names_missing_program(missing.returncode, missing.stderr.removeprefix(b"mark\n"))


def test_what_no_shell_can_be_given_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        command_line(["echo", "a\0b"])
    with pytest.raises(ValueError, match="at least a name"):
        checked_command_line([])
