"""Android's own adb, as Debian has it: a server of the test's own, and the client."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from boardfit.devices.adb_server import AdbServer

from .conftest import missing

REMEDY = "install Android's adb (Debian: `apt install adb`)"


def adb_program() -> str:
    """Where adb is; the test skips where it is not."""
    found = shutil.which("adb")
    if found is None:
        missing("adb", REMEDY)
    assert found is not None
    return found


def environment(home: Path, port: int) -> dict[str, str]:
    """What an adb of the test's own is told: its keys, its server, and to look for nobody."""
    return {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "TMPDIR": str(home),
        "ANDROID_ADB_SERVER_PORT": str(port),
        "ADB_LOCAL_TRANSPORT_MAX_PORT": "5553",  # no emulators, which others may run here
        "ADB_MDNS": "0",
    }


@contextlib.contextmanager
def adb_server(folder: Path) -> Iterator[AdbServer]:
    """An adb server on a port of its own, with keys of its own in `folder`/home."""
    program = adb_program()
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    with (folder / "adb-server.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-P", str(port), "nodaemon", "server"],
            env=environment(home, port),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    server = AdbServer(("127.0.0.1", port))
    try:
        deadline = time.monotonic() + 20
        while not server.answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((folder / "adb-server.log").read_text())
            time.sleep(0.01)
        yield server
    finally:
        process.terminate()
        process.wait(20)


def adb(server: AdbServer, folder: Path, *words: str, stdin: bytes = b"") -> tuple[int, bytes]:
    """Run adb's client; its exit code, and what it wrote."""
    done = subprocess.run(
        [adb_program(), *words],
        env=environment(folder / "home", server.address[1]),
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout
