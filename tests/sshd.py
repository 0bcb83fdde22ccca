"""A real SSH server on this machine: Debian's sshd with its own port, keys and home folder.

    with Sshd(folder) as server:
        server.route()                          # reaches it, for SshTransport
        server.config("Host pi\\n ...")          # a ~/.ssh/config of the test's own

It runs as whoever runs the tests, who is also the one that can log in, with `HOME` in the folder.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from boardfit.devices.ssh_config import Hop

from .conftest import missing

_STARTING = 20.0  # seconds
_ATTEMPTS = 5  # to find a port that nobody takes meanwhile


class Sshd:
    """The server; a context manager that ends it and all that it started."""

    def __init__(self, folder: Path, *settings: str, host_keys: tuple[str, ...] = ("ed25519",)):
        """`settings` are lines of its configuration that go before ours."""
        program = shutil.which("sshd") or "/usr/sbin/sshd"
        if not os.path.exists(program):
            missing("sshd", "install openssh-server (`apt-get install openssh-server`)")
        self.folder = folder
        self.home = folder / "home"
        self.user = getpass.getuser()
        self.log = folder / "sshd.log"
        self.known_hosts = folder / "known_hosts"
        self.key = folder / "key"
        self.port = 0
        self._program = program
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self.home.mkdir(parents=True)
        self.host_keys = [self.make_key(f"host_{kind}", kind) for kind in host_keys]
        self.make_key("key", "ed25519")
        self.authorized_keys = folder / "authorized_keys"
        self.authorized_keys.write_text(self.public(self.key))
        if os.geteuid() == 0:  # where root's sshd locks up what speaks with strangers
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)

    def __enter__(self) -> Self:
        for _ in range(_ATTEMPTS):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
            if self._start():
                break
        else:
            raise RuntimeError(f"sshd does not start: {self.log.read_text()[-2000:]}")
        self.know()
        return self

    def __exit__(self, *reason: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def make_key(self, name: str, kind: str = "ed25519", passphrase: str = "") -> Path:
        """A new key in the folder; the public one lies beside it."""
        path = self.folder / name
        size = ["-b", "2048"] if kind == "rsa" else []
        command = ["ssh-keygen", "-q", "-t", kind, *size, "-N", passphrase, "-C", name, "-f"]
        subprocess.run([*command, str(path)], check=True, timeout=60)
        return path

    def public(self, key: Path) -> str:
        """The public half of a key, as a line."""
        return key.with_name(key.name + ".pub").read_text()

    def know(self, *keys: Path, name: str | None = None) -> None:
        """Write down the server's keys, or those given, as known for its port."""
        host = name or f"[127.0.0.1]:{self.port}"
        lines = [f"{host} {self.public(key)}" for key in keys or self.host_keys]
        self.known_hosts.write_text("".join(lines))

    def hop(self, **other: object) -> Hop:
        """How it is reached, with some of it otherwise."""
        fields = {
            "alias": "board",
            "host": "127.0.0.1",
            "port": self.port,
            "user": self.user,
            "identity_files": (self.key,),
            "identities_only": True,
            "known_hosts": (self.known_hosts,),
            "connect_timeout": 10,
            **other,
        }
        return Hop(**fields)  # type: ignore[arg-type]

    def command(self) -> list[str]:
        """Write its configuration for its `port`; the words that start it."""
        config = self.folder / "sshd_config"
        lines = [
            *self._settings,
            f"ListenAddress 127.0.0.1:{self.port}",
            *(f"HostKey {key}" for key in self.host_keys),
            f"AuthorizedKeysFile {self.authorized_keys}",
            "PidFile none",
            "UsePAM no",
            "StrictModes no",  # a test's folder lies in one that everybody may write
            "PermitRootLogin yes",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PrintMotd no",
            "MaxStartups 100",
            f"SetEnv HOME={self.home}",
        ]
        if not any(line.startswith("Subsystem") for line in self._settings):
            lines.append("Subsystem sftp internal-sftp")
        config.write_text("".join(f"{line}\n" for line in lines))
        return [self._program, "-D", "-e", "-f", str(config)]

    def _start(self) -> bool:
        command = self.command()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log)
        deadline = time.monotonic() + _STARTING
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 5) as probe:
                    return probe.recv(4) == b"SSH-"
            except OSError:
                time.sleep(0.01)
        self._process.kill()
        self._process.wait(10)
        return False
