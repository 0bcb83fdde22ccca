"""A runtime for a board that has none, in a folder of its own below the workspace.

    WORKSPACE/runtime/env/       a virtual environment: nothing else on the board is touched
    WORKSPACE/runtime/wheels/    what was pushed; removed once it is installed

A board with internet installs by itself; for one without, wheels are downloaded here and pushed.
Each step is skipped where it was done already, so that the same call goes on after an interruption.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from .base import Completed, Device, Transport
from .doctor import read_python
from .errors import CommandFailed, DeviceError, InputError, storage_errors
from .files import exclusive, write_atomically
from .inventory import xdg_folder
from .runtime_choice import BoardPython, RuntimeChoice, choose_runtime, fulfils, platform_tags

Source = Literal["auto", "board", "host"]
Say = Callable[[str], None]

FOLDER = "runtime"
_STEP = 60.0  # seconds for a small step on a board
_INSTALL = 1800.0  # seconds; a small board with a slow card unpacks 200 MB for minutes
_DOWNLOAD = 1800.0  # seconds
_PIP = ("--no-input", "--disable-pip-version-check", "--no-cache-dir")
_SITE = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
_HASHES = """
import hashlib, json, os, sys
found = {}
for name in os.listdir(sys.argv[1]) if os.path.isdir(sys.argv[1]) else []:
    digest = hashlib.sha256()
    with open(os.path.join(sys.argv[1], name), "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    found[name] = digest.hexdigest()
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Installed:
    """A runtime that works on a board: `interpreter` is the one that runs it.

    `source`: who downloaded it, `present` where it was there already.
    """

    interpreter: PurePosixPath
    choice: RuntimeChoice
    python: BoardPython
    source: Literal["board", "host", "present"]


def set_up(
    transport: Transport,
    workspace: PurePosixPath,
    interpreter: str,
    cache: Path,
    *,
    source: Source = "auto",
    say: Say = lambda words: None,
) -> Installed:
    """Install the runtime that fits the board's `interpreter`, and make sure that it works.

    `source` says who downloads: the board, this host, or (`auto`) the host where the board cannot.
    Wheels for boards are kept in `cache`. Raises `DeviceError` where nothing fits the board or it
    cannot be installed, `InputError` where the host cannot download, and what the transport raises.
    """
    base, words = read_python(transport, interpreter)
    if base is None:
        raise DeviceError(f"{words}; install python3 there, or name it as `python` in boards.toml")
    choice = choose_runtime(base)
    if fulfils(choice, base):
        return Installed(PurePosixPath(interpreter), choice, base, "present")
    environment = workspace / FOLDER / "env"
    own = environment / "bin" / "python"
    there, _ = read_python(transport, str(own))
    if there is not None and there.minor == base.minor and fulfils(choice, there):
        return Installed(own, choice, there, "present")
    say(f"The board has {base}: {choice}{f', since {choice.why}' if choice.why else ''}.")
    _make_environment(transport, interpreter, environment)
    used: Literal["board", "host"] = "board"
    problem = "" if source == "host" else _install_there(transport, interpreter, own, choice)
    if source == "host" or problem:
        if source == "board":
            raise DeviceError(
                f"the board cannot install {choice}: {problem}; without --source board the wheels "
                "come from this host"
            )
        if problem:
            say(f"The board cannot install it by itself ({problem}); wheels come from this host.")
        used = "host"
        wheels = download(choice, base, cache, say)
        push_wheels(transport, interpreter, workspace / FOLDER / "wheels", wheels, say)
        _install_pushed(transport, own, workspace / FOLDER / "wheels", wheels, choice)
    found, words = read_python(transport, str(own))
    if found is None or not fulfils(choice, found):
        reasons = [words, *(found.problems.values() if found else [])]
        raise DeviceError(
            f"{choice} was installed in {environment} and does not work: "
            f"{'; '.join(reason for reason in reasons if reason) or 'it is not found'}; "
            "`boardfit devices setup NAME --remove` removes it"
        )
    _run(transport, ["rm", "-r", "-f", "--", str(workspace / FOLDER / "wheels")], _STEP).check()
    return Installed(own, choice, found, used)


def remove(transport: Transport, workspace: PurePosixPath) -> bool:
    """Remove all that `set_up` put on a board; whether there was something."""
    folder = str(workspace / FOLDER)
    there = _run(transport, ["test", "-e", folder], _STEP).code == 0
    _run(transport, ["rm", "-r", "-f", "--", folder], _INSTALL).check()
    return there


def _run(transport: Transport, argv: Sequence[str], timeout: float) -> Completed:
    return transport.run(list(argv), timeout=timeout)


def _make_environment(transport: Transport, interpreter: str, environment: PurePosixPath) -> None:
    """A fresh environment without pip, for which Debian has a package of its own."""
    _run(transport, ["mkdir", "-p", "--", str(environment.parent)], _STEP).check()
    done = _run(
        transport,
        [interpreter, "-m", "venv", "--without-pip", "--clear", str(environment)],
        _INSTALL,
    )
    if done.code != 0:
        raise DeviceError(
            f"{interpreter} cannot make a virtual environment: {_last_words(done)}; install "
            "python3-venv there (Debian, Ubuntu: sudo apt-get install python3-venv)"
        )


def _install_there(
    transport: Transport, interpreter: str, own: PurePosixPath, choice: RuntimeChoice
) -> str:
    """Let the board install by itself; why it could not, empty where it could."""
    try:
        if _run(transport, [interpreter, "-m", "pip", "--version"], _STEP).code != 0:
            return "it has no pip"
        site = _run(transport, [str(own), "-c", _SITE], _STEP).check().stdout.decode().strip()
        # Into a folder, since an old pip knows no other environment than its own.
        options = ["--target", site, "--upgrade", "--only-binary", ":all:", "--retries", "1"]
        index = ["--extra-index-url", choice.index] if choice.index else []
        done = _run(
            transport,
            [
                *(interpreter, "-m", "pip", "install", "--timeout", "15", *_PIP),
                *(*options, *index, *choice.requirements),
            ],
            _INSTALL,
        )
    except CommandFailed as error:
        return str(error)
    return "" if done.code == 0 else _last_words(done)


def download(
    choice: RuntimeChoice, python: BoardPython, cache: Path, say: Say = lambda words: None
) -> Mapping[Path, str]:
    """Wheels of a runtime, and of a pip, for a board's interpreter; their SHA-256.

    They are kept in `cache`, and downloaded once. Raises `InputError` with pip's own words.
    """
    folder = wheels_folder(choice, python, cache)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / "downloading.lock"):
        if kept := _kept(folder):
            return kept
        say(f"Downloading wheels for {python}.")
        with storage_errors(folder):
            for old in folder.glob("*.whl"):
                old.unlink()
        _pip_download(choice, python, folder)
        wheels = {path: _sha256(path) for path in sorted(folder.glob("*.whl"))}
        names = {path.name: digest for path, digest in wheels.items()}
        write_atomically(folder / "wheels.json", json.dumps(names, indent=1).encode())
        return wheels


def wheels_folder(choice: RuntimeChoice, python: BoardPython, cache: Path) -> Path:
    """Where the wheels of a runtime for such interpreters are kept."""
    words = [*choice.requirements, python.machine, str(python.minor), str(python.glibc)]
    return cache / "wheels" / hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def _kept(folder: Path) -> dict[Path, str]:
    """The wheels of an earlier download; empty where it did not end, or one was spoilt."""
    try:
        names = json.loads((folder / "wheels.json").read_text())
        wheels = {folder / name: digest for name, digest in names.items()}
        sound = all(
            path.parent == folder and _sha256(path) == digest for path, digest in wheels.items()
        )
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    return wheels if sound else {}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download_command(choice: RuntimeChoice, python: BoardPython, folder: Path) -> list[str]:
    """How this host's pip is asked for another machine's wheels."""
    version = ".".join(map(str, python.minor))
    command = [sys.executable, "-m", "pip", "download", "--no-input", "--disable-pip-version-check"]
    command += ["--quiet", "--only-binary", ":all:", "--dest", str(folder)]
    command += ["--implementation", "cp", "--python-version", version]
    for tag in platform_tags(python):
        command += ["--platform", tag]
    if choice.index:
        command += ["--extra-index-url", choice.index]
    return [*command, *choice.requirements, "pip"]


def _pip_download(choice: RuntimeChoice, python: BoardPython, folder: Path) -> None:
    try:
        done = subprocess.run(
            download_command(choice, python, folder),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_DOWNLOAD,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"pip did not download {choice} within {_DOWNLOAD:.0f} s; look after the network and "
            "run the same command again"
        ) from error
    if done.returncode != 0:
        words = _last_words(Completed((), done.returncode, done.stdout, done.stderr))
        raise InputError(
            f"this host cannot download {choice} for {python}: {words}; look after the network "
            "(and after pip: python -m ensurepip), and run the same command again"
        )


def _last_words(done: Completed) -> str:
    """What a failed pip or Python said, without its warnings."""
    text = (done.stderr or done.stdout).decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines
    return (errors[-1][:300] if errors else f"code {done.code}").removeprefix("ERROR: ")


def push_wheels(
    transport: Transport,
    interpreter: str,
    folder: PurePosixPath,
    wheels: Mapping[Path, str],
    say: Say,
) -> None:
    """Copy what is not there yet, and make sure that all of it arrived as it was.

    `wheels` are files with their SHA-256; what else lies in the folder is removed. Raises
    `DeviceError` where something arrived otherwise.
    """
    wanted = {path.name: digest for path, digest in wheels.items()}
    there = _hashes(transport, interpreter, folder)
    for name in there.keys() - wanted.keys():
        _run(transport, ["rm", "-f", "--", str(folder / name)], _STEP).check()
    missing = [path for path, digest in wheels.items() if there.get(path.name) != digest]
    for number, path in enumerate(missing, 1):
        say(f"Pushing {path.name} ({number} of {len(missing)}).")
        transport.push(path, folder / path.name)
    found = _hashes(transport, interpreter, folder) if missing else there
    if wrong := [name for name, digest in wanted.items() if found.get(name) != digest]:
        raise DeviceError(
            f"{', '.join(wrong)} arrived otherwise than sent: the link or the board's disk is "
            "faulty; check the disk, and run the same command again"
        )


def _hashes(transport: Transport, interpreter: str, folder: PurePosixPath) -> dict[str, str]:
    done = _run(transport, [interpreter, "-c", _HASHES, str(folder)], _INSTALL).check()
    try:
        found = json.loads(done.stdout)
        return {str(name): str(digest) for name, digest in found.items()}
    except (ValueError, AttributeError, RecursionError):
        raise DeviceError(
            f"{interpreter} on the board answered {done.stdout[:100]!r}; check that it is Python"
        ) from None


def _install_pushed(
    transport: Transport,
    own: PurePosixPath,
    folder: PurePosixPath,
    wheels: Mapping[Path, str],
    choice: RuntimeChoice,
) -> None:
    pip = next(path.name for path in wheels if path.name.startswith("pip-"))
    done = _run(
        transport,
        [
            # A wheel is an archive that Python runs from; boards often have no pip, or an old one.
            *(str(own), str(folder / pip / "pip"), "--isolated", "install", *_PIP),
            *("--no-index", "--find-links", str(folder), *choice.requirements),
        ],
        _INSTALL,
    )
    if done.code != 0:
        raise DeviceError(
            f"{choice} cannot be installed on the board: {_last_words(done)}; free some space in "
            "the workspace, or run `boardfit devices doctor`"
        )


def set_up_board(
    board: Device, *, source: Source = "auto", say: Say = lambda words: None
) -> Installed:
    """As `set_up`, for a board that was reached; wheels are kept in the user's cache.

    Raises what `set_up` raises, and `DeviceError` for a board without Python.
    """
    if board.kind == "fake":
        raise DeviceError("the fake board simulates its worker; it needs no runtime")
    # Where this interpreter is one of ours the base it was made from is asked, or it would be
    # replaced by itself.
    own = str(board.workspace / FOLDER / "env" / "bin" / "python")
    interpreter = "python3" if board.python in {None, own} else str(board.python)
    cache = xdg_folder("XDG_CACHE_HOME", ".cache")
    if cache is None:
        raise InputError("there is no home folder for downloads; set XDG_CACHE_HOME")
    return set_up(
        board.transport, board.workspace, interpreter, cache / "boardfit", source=source, say=say
    )


def summary(found: Installed, board: Device) -> list[str]:
    """What was done, and the line that boards.toml needs for it."""
    versions = ", ".join(
        f"{name} {found.python.versions[name]}"
        for name in ("ai-edge-litert", "tflite-runtime", "numpy")
        if name in found.python.versions
    )
    verb = "is there already" if found.source == "present" else "is installed and works"
    sentences = [f"{versions} {verb} on {board.name}."]
    if board.python != str(found.interpreter):
        line = f'python = "{found.interpreter}"'
        sentences.append(f"Write below [boards.{board.name}] in boards.toml: {line}")
    return sentences
