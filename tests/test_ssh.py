"""Boards over SSH: a real sshd, and what goes wrong with links, keys, shells and disks."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import re
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import paramiko
import pytest

from boardfit.devices import ssh_keys
from boardfit.devices.base import Transport
from boardfit.devices.errors import (
    CommandFailed,
    DeviceError,
    DeviceLost,
    DeviceTimeout,
    DeviceUnauthorised,
    DeviceUnreachable,
    InventoryError,
    StorageError,
)
from boardfit.devices.ssh import SshTransport
from boardfit.devices.ssh_connect import open_link
from boardfit.devices.ssh_link import SftpStream
from boardfit.profiler.connect import connect

from .conftest import missing
from .slow_link import SlowLink
from .sshd import Sshd
from .transport_boards import python

SOON = 8.0  # seconds in which a lost link has to be noticed, on a machine that is busy


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture
def board(server: Sshd) -> Iterator[SshTransport]:
    transport = SshTransport([server.hop()])
    yield transport
    transport.close()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No thread and no child of ours outlives a test."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 5
    while (left := set(threading.enumerate()) - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


# The host's key


def refusal(*hops: object) -> str:
    with pytest.raises(DeviceError) as caught:
        SshTransport(hops).close()  # type: ignore[arg-type]
    assert type(caught.value) is not DeviceError, "each reason has its own error"
    return f"{type(caught.value).__name__}: {caught.value}"


def command_in(message: str) -> str:
    """The last command that an error proposes."""
    return str(re.findall(r"`([^`]+)`", message)[-1])


def test_an_unknown_key_fails_with_the_command_that_adds_it(server: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known hosts"
    message = refusal(server.hop(known_hosts=(known,)))
    key = (server.folder / "host_ed25519.pub").read_text().split()[1]
    done = subprocess.run(
        ["ssh-keygen", "-lf", str(server.folder / "host_ed25519.pub")], capture_output=True
    )
    shown = done.stdout.decode().split()[1]
    assert message.startswith(f"DeviceUnverified: the key of 127.0.0.1 port {server.port} is not")
    assert f"ssh-ed25519 {shown}. Compare it" in message
    assert command_in(message) == f"ssh-keyscan -p {server.port} 127.0.0.1 >> '{known}'"
    subprocess.run(["sh", "-c", command_in(message)], check=True, capture_output=True, timeout=30)
    assert key in known.read_text()
    SshTransport([server.hop(known_hosts=(known,))]).close()


def test_a_changed_key_fails_with_a_warning_and_the_way_out(server: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{server.port} {server.public(server.key)}")
    message = refusal(server.hop(known_hosts=(known,)))
    assert message.startswith("DeviceUnverified: WARNING: 127.0.0.1 port")
    assert f"than {known}:1 has. It was set up anew, or somebody stands between" in message
    subprocess.run(shlex.split(command_in(message)), check=True, capture_output=True, timeout=30)
    assert "is not known here" in refusal(server.hop(known_hosts=(known,)))


def test_a_revoked_key_is_refused(server: Sshd, tmp_path: Path) -> None:
    public = server.public(server.host_keys[0])
    known = tmp_path / "known_hosts"
    known.write_text(
        f"@cert-authority * {public}[127.0.0.1]:{server.port} {public}@revoked * {public}"
    )
    assert "shows a key that was revoked" in refusal(server.hop(known_hosts=(known,)))


def test_hashed_names_and_aliases_are_looked_up(server: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(server.known_hosts.read_text())
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(known)], check=True, capture_output=True)
    assert "127.0.0.1" not in known.read_text()
    SshTransport([server.hop(known_hosts=(tmp_path / "none", known))]).close()
    known.write_text(f"board-7 {server.public(server.host_keys[0])}")
    SshTransport([server.hop(known_hosts=(known,), host_key_name="board-7")]).close()
    message = refusal(server.hop(known_hosts=(known,), host_key_name="board-8"))
    assert command_in(message) == "ssh board"


def test_a_key_of_any_algorithm_is_enough(tmp_path: Path) -> None:
    with Sshd(tmp_path / "sshd", host_keys=("rsa", "ecdsa", "ed25519")) as server:
        for key in server.host_keys:
            server.know(key)
            SshTransport([server.hop()]).close()


# Logging in


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """An agent with the keys that it is given; its socket."""
    program = shutil.which("ssh-agent")
    if program is None:
        missing("ssh-agent", "install openssh-client (`apt-get install openssh-client`)")
    sock = tmp_path / "agent"
    process = subprocess.Popen(
        [str(program), "-D", "-a", str(sock)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def hold(*keys: Path, passphrase: str = "") -> str:
        wait_for(sock.exists)
        ask = tmp_path / "ask"
        ask.write_text(f"#!/bin/sh\necho '{passphrase}'\n")
        ask.chmod(0o700)
        told = {"SSH_AUTH_SOCK": str(sock), "SSH_ASKPASS": str(ask)}
        told |= {"SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":0"}
        for key in keys:
            subprocess.run(
                ["ssh-add", "-q", str(key)], env={**os.environ, **told}, check=True, timeout=30
            )
        return str(sock)

    yield hold
    process.terminate()
    process.wait(10)


def test_a_key_of_the_agent_lets_in(server: Sshd, agent: Callable[..., str]) -> None:
    held = agent(server.key)
    SshTransport([server.hop(identity_files=(), identities_only=False, agent=held)]).close()
    message = refusal(server.hop(identity_files=(), agent=held))  # identities_only
    assert "there is no key to show (none is named); make one with `ssh-keygen`" in message


def test_an_encrypted_key_needs_the_agent(
    server: Sshd, agent: Callable[..., str], tmp_path: Path
) -> None:
    secret = "correct horse"
    key = server.make_key("locked key", passphrase=secret)
    message = refusal(server.hop(identity_files=(key,)))
    assert message.startswith("DeviceUnauthorised: 127.0.0.1 port")
    assert f"{key} is encrypted and no agent holds it: `ssh-add '{key}'`" in message
    server.authorized_keys.write_text(server.public(key) + server.public(server.key))
    held = agent(key, passphrase=secret)
    # The public half tells the agent's key, also where it stands in the private file alone.
    key.with_name("locked key.pub").unlink()
    SshTransport([server.hop(identity_files=(key,), agent=held)]).close()


def test_a_key_that_is_refused_is_named(server: Sshd) -> None:
    stranger = server.make_key("stranger")
    message = refusal(server.hop(identity_files=(server.folder / "absent", stranger)))
    assert f"does not let {server.user!r} in: it refused {stranger}. Otherwise" in message
    assert command_in(message) == f"ssh-copy-id -p {server.port} {server.user}@127.0.0.1"


class Mute:
    """The part of a paramiko transport that logs in, to a host that does not answer."""

    auth_timeout = 30.0

    def __init__(self, active: bool) -> None:
        self.active = active
        self.asked = 0

    def auth_none(self, user: str) -> None:
        raise paramiko.BadAuthenticationType("no", ["publickey"])

    def auth_publickey(self, user: str, key: paramiko.PKey) -> list[str]:
        self.asked += 1
        time.sleep(ssh_keys._PATIENCE if self.active else 0.0)
        raise paramiko.AuthenticationException("Authentication timeout.")

    def is_active(self) -> bool:
        return self.active


@pytest.mark.parametrize("active", [True, False])
def test_a_host_that_falls_silent_has_refused_nobody(
    server: Sshd, monkeypatch: pytest.MonkeyPatch, active: bool
) -> None:
    monkeypatch.setattr(ssh_keys, "_PATIENCE", 0.05)
    mute = Mute(active)
    with pytest.raises(DeviceUnreachable, match=r"broke off while .* logged in"):
        ssh_keys.authenticate(mute, server.hop())  # type: ignore[arg-type]
    assert mute.asked == 1


def test_files_that_are_no_keys_are_named(server: Sshd, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END\n")
    (tmp_path / "folder").mkdir()
    message = refusal(server.hop(identity_files=(tmp_path / "text", tmp_path / "folder")))
    assert f"{tmp_path / 'text'} is no private key that paramiko can use" in message
    assert f"{tmp_path / 'folder'} cannot be read: Is a directory" in message


def test_too_many_keys_are_told_apart_from_a_wrong_one(server: Sshd) -> None:
    strangers = tuple(server.make_key(f"stranger {n}") for n in range(7))
    message = refusal(server.hop(identity_files=strangers))
    assert "DeviceUnauthorised: " in message
    assert "name the right one: `identity_file` in boards.toml, or IdentityFile" in message


def test_a_host_that_wants_passwords_is_not_asked_for_one(tmp_path: Path) -> None:
    settings = ("PubkeyAuthentication no", "PasswordAuthentication yes")
    with Sshd(tmp_path / "sshd", *settings) as server:
        message = refusal(server.hop())
    assert re.search(
        r"takes no keys from .*, only password, and boardfit asks for no pass", message
    )


def test_an_agent_that_is_gone_is_named(server: Sshd, tmp_path: Path) -> None:
    SshTransport([server.hop(agent=str(tmp_path / "gone"))]).close()  # the file is enough
    message = refusal(server.hop(identity_files=(), agent=str(tmp_path / "gone")))
    assert f"the agent at {tmp_path / 'gone'} does not answer (" in message


# What answers is no board


@contextlib.contextmanager
def answering(*answers: bytes, hold: bool = False) -> Iterator[int]:
    """A port that says something to whoever comes, and then is silent or hangs up."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        ended = threading.Event()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while not ended.is_set():
                    connection, _ = listening.accept()
                    with connection:
                        for answer in answers:
                            connection.sendall(answer)
                        if hold:
                            ended.wait(30)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        ended.set()
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_another_protocol_is_named(server: Sshd) -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\n" + b"\r\n" * 200) as port:
        message = refusal(server.hop(port=port, connect_timeout=2))
    assert f"127.0.0.1 port {port} is no SSH server: it answers 'HTTP/1.1 400 Bad" in message
    assert message.startswith("DeviceUnreachable: ")
    assert message.endswith("; check the port")


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ((), "took the connection and said nothing within 1 s; check that an SSH server"),
        ((b"SSH-2.0-board\r\n", os.urandom(4096)), "broke off while keys were agreed on"),
        ((b"x" * 100_000,), "is no SSH server: it answers 'xxx"),
    ],
)
def test_silence_and_garbage_end_in_time(
    server: Sshd, answers: tuple[bytes, ...], words: str
) -> None:
    with answering(*answers, hold=True) as port:
        began = time.monotonic()
        assert words in refusal(server.hop(port=port, connect_timeout=1))
        assert time.monotonic() - began < SOON


def test_a_closed_port_and_an_unknown_name_are_named(server: Sshd) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        assert f"nothing listens on port {port} of 127.0.0.1" in refusal(server.hop(port=port))
    for name in ("no-such-host.invalid", "x" * 70, "a..b"):
        message = refusal(server.hop(host=name))
        assert message.startswith(f"DeviceUnreachable: no address is known for the host {name!r}")


def test_paramiko_writes_no_tracebacks(server: Sshd, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\n" * 300) as port:
        refusal(server.hop(port=port, connect_timeout=1))
    assert capsys.readouterr() == ("", "")
    assert logging.getLogger("boardfit.paramiko").handlers


# Jumps


def test_a_board_behind_two_others_is_reached(server: Sshd) -> None:
    hops = [server.hop(alias=name) for name in ("outer", "inner", "board")]
    transport = SshTransport(hops)
    try:
        assert transport.run(["echo", "there"], timeout=20).stdout == b"there\n"
    finally:
        transport.close()


def test_a_jump_that_leads_nowhere_is_named(server: Sshd) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        message = refusal(server.hop(alias="gate"), server.hop(port=port))
    assert f"127.0.0.1 port {port} cannot be reached from gate (" in message


def test_a_proxy_command_is_used_and_ended(server: Sshd, tmp_path: Path) -> None:
    code = (
        "import os, socket, sys, threading\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        f"s = socket.create_connection(('127.0.0.1', {server.port}))\n"
        "def move(read, write):\n"
        "    while data := read(65536): write(data)\n"
        "    os._exit(0)\n"
        "threading.Thread(target=move, args=(lambda n: os.read(0, n), s.sendall)).start()\n"
        "move(s.recv, lambda d: os.write(1, d))\n"
    )
    (tmp_path / "proxy.py").write_text(code)
    command = shlex.join([sys.executable, "-I", "-S", str(tmp_path / "proxy.py")])
    known = tmp_path / "known"
    known.write_text(f"board {server.public(server.host_keys[0])}")
    hop = server.hop(
        host="nowhere.invalid", host_key_name="board", known_hosts=(known,), proxy_command=command
    )
    transport = SshTransport([hop])
    pid = int((tmp_path / "pid").read_text())
    assert transport.run(["echo", "there"], timeout=20).stdout == b"there\n"
    transport.close()
    wait_for(lambda: not lives(pid))
    message = refusal(server.hop(proxy_command="exit 1"))
    assert "the ProxyCommand of board in ~/.ssh/config led to no SSH server" in message


# Commands


def test_a_command_that_is_given_up_is_ended_with_all_that_it_started(
    board: SshTransport, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 60 & echo $! $$ > {shlex.quote(str(pids))}; wait"
    with pytest.raises(DeviceTimeout, match=r"sh -c .* took longer than 1 s and was ended"):
        board.run(["sh", "-c", script], timeout=1)
    for pid in pids.read_text().split():
        wait_for(lambda pid=int(pid): not lives(pid))  # type: ignore[misc]


def test_a_signal_is_no_success(board: SshTransport) -> None:
    assert board.run(["sh", "-c", "kill -KILL $$"], timeout=20).code == 137
    assert board.run(["sh", "-c", "kill -TERM 0"], timeout=20).code != 0
    channel = board.open(["sh", "-c", "read x; kill -KILL $$"])
    channel.send(b"go")
    with pytest.raises(DeviceLost, match=r"SIGKILL.*memory") as caught:
        channel.receive(timeout=20)
    assert caught.value.killed


def test_output_without_end_is_refused(board: SshTransport) -> None:
    with pytest.raises(DeviceError, match=r"wrote more than \d+ bytes"):
        board.run(["sh", "-c", "yes >&2"], timeout=120)


def test_a_process_that_writes_much_to_stderr_can_go_on(board: SshTransport) -> None:
    channel = board.open(
        python(
            """
            import sys
            for line in sys.stdin:
                sys.stderr.write("e" * 5_000_000 + "last words")
                print("done", flush=True)
                sys.exit(4)
            """
        )
    )
    channel.send(b"go")
    assert channel.receive(timeout=30) == b"done"
    with pytest.raises(DeviceLost, match=r"ended with code 4; its last words: e+last words$"):
        channel.receive(timeout=20)


def test_a_channel_is_ended_with_all_that_it_started(board: SshTransport, tmp_path: Path) -> None:
    channel = board.open(["sh", "-c", "trap '' TERM; sleep 60 & echo $! $$; wait; sleep 60"])
    pids = [int(word) for word in channel.receive(timeout=20).split()]
    channel.close()
    for pid in pids:
        wait_for(lambda pid=pid: not lives(pid))  # type: ignore[misc]


def test_closing_the_transport_ends_what_was_opened(server: Sshd) -> None:
    transport = SshTransport([server.hop()])
    channel = transport.open(["sh", "-c", "echo $$; exec cat"])
    pid = int(channel.receive(timeout=20))
    transport.close()
    wait_for(lambda: not lives(pid))
    with pytest.raises(DeviceLost, match=r"^the way to board \(127\.0\.0\.1\) was closed; connect"):
        transport.run(["true"], timeout=1)


def test_commands_that_are_too_long_are_refused(board: SshTransport) -> None:
    with pytest.raises(CommandFailed, match=r"too long to be run \(\d+ bytes\); put"):
        board.run(["true", "x" * 200_000], timeout=10)
    with pytest.raises(CommandFailed, match="cannot hold a NUL byte"):
        board.run(["true", "\0"], timeout=10)


def test_names_that_are_no_text_arrive(board: SshTransport, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \\ '\n!")
    (tmp_path / name).write_bytes(b"here")
    path = PurePosixPath(tmp_path / name)
    assert board.run(["cat", "--", str(path)], timeout=20).stdout == b"here"
    board.pull(path, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"here"


def test_there_are_only_so_many_sessions(tmp_path: Path) -> None:
    with Sshd(tmp_path / "sshd", "MaxSessions 2") as server:
        transport = SshTransport([server.hop()])
        channels = [transport.open(["cat"]) for _ in range(2)]
        with pytest.raises(DeviceError, match=r"opens no further session .*raise MaxSessions in"):
            transport.run(["true"], timeout=10)
        channels[0].close()
        transport.run(["true"], timeout=10).check()
        transport.close()


# Login shells


@pytest.mark.parametrize(
    "shell",
    [
        """exec /bin/sh -c "$2" """,
        """echo 'Welcome!'; printf 'no newline'; echo 'a warning' >&2; exec /bin/sh -c "$2" """,
    ],
    ids=["plain", "greets"],
)
def test_what_a_login_prints_is_not_the_programs(tmp_path: Path, shell: str) -> None:
    (tmp_path / "shell").write_text(f'#!/bin/sh\nset -- -c "$SSH_ORIGINAL_COMMAND"\n{shell}\n')
    (tmp_path / "shell").chmod(0o755)
    with Sshd(tmp_path / "sshd", f"ForceCommand {tmp_path / 'shell'}") as server:
        transport = SshTransport([server.hop()])
        done = transport.run(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout=20)
        assert (done.code, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
        with pytest.raises(CommandFailed, match="no program 'absent'"):
            transport.run(["absent"], timeout=20)
        channel = transport.open(["cat"])
        channel.send(b"line")
        assert channel.receive(timeout=20) == b"line"
        transport.close()


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        ("echo 'This account is not available.'; exit 1", "code 1 and said 'This account is not"),
        ("exit 0", "runs no command; it ended with code 0 and said ''; give the user a shell"),
        ("yes", "prints more than 1048576 bytes before it runs a command; let ~/.bashrc"),
    ],
)
def test_a_login_that_runs_no_command_is_named(tmp_path: Path, shell: str, words: str) -> None:
    with Sshd(tmp_path / "sshd", f"ForceCommand {shell}") as server:
        transport = SshTransport([server.hop()])
        with pytest.raises(DeviceError, match=re.escape(words)):
            transport.run(["true"], timeout=20)
        with pytest.raises(DeviceError, match=re.escape(words)):
            transport.open(["cat"])
        transport.close()


def test_a_login_that_was_killed_is_lost_and_not_misconfigured(tmp_path: Path) -> None:
    with Sshd(tmp_path / "sshd", "ForceCommand kill -9 $$") as server:
        transport = SshTransport([server.hop()])
        for ask in (lambda: transport.run(["true"], timeout=20), lambda: transport.open(["cat"])):
            with pytest.raises(
                DeviceLost, match=r"signal ended the login .* before (true|cat) beg"
            ):
                ask()
        transport.close()


# Files


def test_only_the_owner_can_read_what_is_pushed(board: SshTransport, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"1")
    (tmp_path / "text").chmod(0o644)
    (tmp_path / "program").write_bytes(b"#!/bin/sh\necho runs\n")
    (tmp_path / "program").chmod(0o755)
    root = tmp_path / "new" / "folder"
    for name in ("text", "program"):
        board.push(tmp_path / name, PurePosixPath(root / name))
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (root.parent, root, root / "text")]
    assert modes == [0o700, 0o700, 0o600]
    assert board.run([str(root / "program")], timeout=20).stdout == b"runs\n"


def test_what_is_no_ordinary_file_is_not_pulled(board: SshTransport, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to the pipe").symlink_to("pipe")
    (tmp_path / "nowhere").symlink_to("absent")
    (tmp_path / "circle").symlink_to("circle")
    for name in ("pipe", "to the pipe", "."):
        with pytest.raises(CommandFailed, match="it is not an ordinary file; check the name"):
            board.pull(PurePosixPath(tmp_path / name), tmp_path / "copy")
    with pytest.raises(CommandFailed, match="it is not an ordinary file; check the name"):
        board.pull(PurePosixPath("/dev/zero"), tmp_path / "copy")
    for name in ("nowhere", "circle", "absent/file"):
        with pytest.raises(CommandFailed, match="it does not exist; check the name"):
            board.pull(PurePosixPath(tmp_path / name), tmp_path / "copy")
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    board.pull(PurePosixPath(tmp_path / "link"), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"content"
    assert not (tmp_path / "copy").is_symlink()


def test_files_of_the_kernel_are_pulled_although_they_say_no_size(
    board: SshTransport, tmp_path: Path
) -> None:
    board.pull(PurePosixPath("/proc/version"), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == Path("/proc/version").read_bytes()


def test_a_place_that_cannot_be_written_is_named(board: SshTransport, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"1")
    (tmp_path / "place" / "folder").mkdir(parents=True)
    (tmp_path / "place" / "file").write_bytes(b"")
    places = ["folder", "file/below", "n" * 256]
    for place in places:
        with pytest.raises(StorageError, match=r"cannot write .* on board"):
            board.push(tmp_path / "source", PurePosixPath(tmp_path / "place" / place))
    assert sorted(os.listdir(tmp_path / "place")) == ["file", "folder"]
    with pytest.raises(StorageError, match="cannot write /proc/"):
        board.push(tmp_path / "source", PurePosixPath("/proc/new/file"))
    # All that did not hurt the session.
    board.push(tmp_path / "source", PurePosixPath(tmp_path / "place" / "good"))


def test_a_full_disk_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "big").write_bytes(bytes(3_000_000))
    mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mounted = ['mount -t tmpfs -o size=1m none "$1" && exec "$2"', "sh", str(disk)]
    server_program = "/usr/lib/openssh/sftp-server"
    if not os.path.exists(server_program) or shutil.which("unshare") is None:
        missing("sftp-server and unshare", "install openssh-sftp-server and util-linux")
    probe = subprocess.run([*mount, *mounted, "true"], capture_output=True, timeout=30)
    if probe.returncode:
        pytest.skip("this machine lets nobody make a small disk")
    command = shlex.join([*mount, *mounted, server_program])
    (tmp_path / "files").write_text(f"#!/bin/sh\nexec {command}\n")
    (tmp_path / "files").chmod(0o755)
    with Sshd(tmp_path / "sshd", f"Subsystem sftp {tmp_path / 'files'}") as server:
        transport = SshTransport([server.hop()])
        with pytest.raises(StorageError, match=r"no space left .* has 3000000 bytes, \d+ are free"):
            transport.push(tmp_path / "big", PurePosixPath(disk / "big"))
        with pytest.raises(CommandFailed, match="does not exist"):
            transport.pull(PurePosixPath(disk / "big"), tmp_path / "copy")
        (tmp_path / "big").write_bytes(bytes(1_000_000))
        transport.push(tmp_path / "big", PurePosixPath(disk / "big"))  # what was left is gone
        transport.close()


def test_a_file_server_that_cannot_replace_files_is_helped(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with Sshd(tmp_path / "sshd", "Subsystem sftp internal-sftp -P posix-rename") as server:
        transport = SshTransport([server.hop()])
        for content in (b"first", b"second"):
            (tmp_path / "source").write_bytes(content)
            transport.push(tmp_path / "source", PurePosixPath(tmp_path / "target"))
            assert (tmp_path / "target").read_bytes() == content
        with pytest.raises(StorageError, match="it is a folder"):
            transport.push(tmp_path / "source", PurePosixPath(tmp_path / "folder"))
        assert os.listdir(tmp_path / "folder") == []
        transport.close()


def test_a_board_without_file_server_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"1")
    with Sshd(tmp_path / "sshd", "Subsystem sftp /no/such/program") as server:
        transport = SshTransport([server.hop()])
        with pytest.raises(DeviceError, match="file server"):
            transport.push(tmp_path / "source", PurePosixPath(tmp_path / "target"))
        transport.run(["true"], timeout=20).check()
        transport.close()


def test_a_greeting_that_garbles_files_is_named(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"1")
    (tmp_path / "files").write_text("#!/bin/sh\necho Welcome to the board\n")
    (tmp_path / "files").chmod(0o755)
    with Sshd(tmp_path / "sshd", f"Subsystem sftp {tmp_path / 'files'}") as server:
        transport = SshTransport([server.hop()])
        for _ in range(2):
            with pytest.raises(DeviceError, match=r"began a packet with b'Welc'; where a login"):
                transport.push(tmp_path / "source", PurePosixPath(tmp_path / "target"))
        transport.close()


# Links that are slow, narrow, or break


def test_a_push_through_a_narrow_link_arrives_whole(server: Sshd, tmp_path: Path) -> None:
    content = random.Random(5).randbytes(5_000_000)
    (tmp_path / "source").write_bytes(content)
    with SlowLink(server.port, piece=3000, buffer=4096) as link:
        server_key = f"[127.0.0.1]:{link.port} {server.public(server.host_keys[0])}"
        (tmp_path / "known").write_text(server_key)
        transport = SshTransport([server.hop(port=link.port, known_hosts=(tmp_path / "known",))])
        transport.push(tmp_path / "source", PurePosixPath(tmp_path / "target"))
        assert (tmp_path / "target").read_bytes() == content
        transport.close()


@pytest.fixture
def far(server: Sshd, tmp_path: Path) -> Iterator[Callable[..., tuple[SlowLink, SshTransport]]]:
    """Makes a link that can break, and a transport over it."""
    with contextlib.ExitStack() as stack:

        def make(**options: object) -> tuple[SlowLink, SshTransport]:
            link = stack.enter_context(SlowLink(server.port, **options))  # type: ignore[arg-type]
            known = tmp_path / f"known for {link.port}"
            known.write_text(f"[127.0.0.1]:{link.port} {server.public(server.host_keys[0])}")
            hop = server.hop(
                port=link.port, known_hosts=(known,), alive_interval=0.5, alive_count=3
            )
            transport = SshTransport([hop])
            stack.callback(transport.close)
            return link, transport

        yield make


LOST = r"^the link to board \(127\.0\.0\.1\) broke; check its power"


def lost_soon(act: Callable[[], object]) -> None:
    began = time.monotonic()
    with pytest.raises(DeviceLost, match=LOST):
        act()
    assert time.monotonic() - began < SOON


@pytest.mark.parametrize("silently", [False, True])
def test_a_link_that_breaks_is_noticed_wherever_one_waits(
    far: Callable[..., tuple[SlowLink, SshTransport]], tmp_path: Path, silently: bool
) -> None:
    def breaks(link: SlowLink) -> None:
        threading.Timer(0.3, link.freeze if silently else link.cut).start()

    (tmp_path / "source").write_bytes(b"1")
    link, transport = far()
    breaks(link)
    lost_soon(lambda: transport.run(["sleep", "60"], timeout=60))
    attempts: list[Callable[[], object]] = [
        lambda: transport.run(["true"], timeout=1),
        lambda: transport.open(["cat"]),
        lambda: transport.push(tmp_path / "source", PurePosixPath(tmp_path / "target")),
        lambda: transport.pull(PurePosixPath(tmp_path / "source"), tmp_path / "copy"),
    ]
    for attempt in attempts:
        lost_soon(attempt)

    link, transport = far()
    channel = transport.open(["cat"])
    breaks(link)
    lost_soon(lambda: channel.receive(timeout=60))
    lost_soon(lambda: channel.receive(timeout=60))
    lost_soon(lambda: channel.send(b"line"))
    channel.close()


@pytest.mark.parametrize("silently", [False, True])
def test_who_waits_until_a_copy_may_go_on_is_told_of_the_loss(
    server: Sshd, tmp_path: Path, silently: bool
) -> None:
    """The server takes nothing more: paramiko then says that it has ended, and nothing else."""
    with SlowLink(server.port) as link:
        known = tmp_path / "known"
        known.write_text(f"[127.0.0.1]:{link.port} {server.public(server.host_keys[0])}")
        hop = server.hop(port=link.port, known_hosts=(known,), alive_interval=0.5, alive_count=3)
        opened = open_link([hop])
        stream = SftpStream(opened)
        link.freeze()
        if not silently:
            threading.Timer(0.5, link.cut).start()

        def send_for_ever() -> None:
            while stream.send(bytes(32_768)):
                pass

        lost_soon(send_for_ever)
        stream.close()
        opened.close()


@pytest.mark.parametrize("silently", [False, True])
def test_a_copy_that_breaks_off_leaves_nothing(
    far: Callable[..., tuple[SlowLink, SshTransport]], tmp_path: Path, silently: bool
) -> None:
    content = bytes(30_000_000)
    (tmp_path / "source").write_bytes(content)
    for back in (False, True):
        link, transport = far()
        transport.run(["true"], timeout=20)
        place = tmp_path / f"place {back}"
        place.mkdir()
        (place / "target").write_bytes(b"old")
        carried = link.carried

        def act(transport: Transport = transport, place: Path = place, back: bool = back) -> None:
            if back:
                transport.pull(PurePosixPath(tmp_path / "source"), place / "target")
            else:
                transport.push(tmp_path / "source", PurePosixPath(place / "target"))

        def break_it(
            link: SlowLink = link,
            at: int = carried + 3_000_000,
            place: Path = place,
            back: bool = back,
        ) -> None:
            wait_for(lambda: link.carried > at or (len(os.listdir(place)) > 1 and back))
            (link.freeze if silently else link.cut)()

        breaking = threading.Thread(target=break_it)
        breaking.start()
        lost_soon(act)
        breaking.join()
        assert (place / "target").read_bytes() == b"old"
        if back:
            assert os.listdir(place) == ["target"]


def test_a_link_that_is_silent_but_there_is_kept(
    far: Callable[..., tuple[SlowLink, SshTransport]],
) -> None:
    _, transport = far()
    channel = transport.open(["sh", "-c", "sleep 2.5; echo awake"])
    assert channel.receive(timeout=20) == b"awake"


def test_a_pause_is_no_loss(
    far: Callable[..., tuple[SlowLink, SshTransport]], tmp_path: Path
) -> None:
    link, transport = far()
    (tmp_path / "source").write_bytes(bytes(20_000_000))
    link.freeze()
    thawing = threading.Timer(0.7, link.thaw)
    thawing.start()
    transport.push(tmp_path / "source", PurePosixPath(tmp_path / "target"))
    thawing.join()
    assert (tmp_path / "target").stat().st_size == 20_000_000


def test_a_board_that_takes_nothing_more_is_lost(
    far: Callable[..., tuple[SlowLink, SshTransport]],
) -> None:
    link, transport = far()
    channel = transport.open(["cat"])
    link.freeze()

    def send() -> None:
        for _ in range(100):
            channel.send(b"x" * 1_000_000)

    lost_soon(send)


def test_a_server_that_ends_is_noticed(tmp_path: Path) -> None:
    with Sshd(tmp_path / "sshd") as server:
        transport = SshTransport([server.hop()])
        # Our shell stands between the program and the server.
        channel = transport.open(["sh", "-c", "cut -d ' ' -f 4 /proc/$PPID/stat; exec cat"])
        parent = channel.receive(timeout=20)
        subprocess.run(["kill", "-9", parent.decode()], check=True)
        lost_soon(lambda: channel.receive(timeout=60))
        transport.close()


# From boards.toml to a device


@pytest.fixture
def configured(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """A home folder here whose ~/.ssh/config knows the board `pi`."""
    here = tmp_path / "here"
    (here / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (here / ".ssh" / "config").write_text(
        f"Host pi\n HostName 127.0.0.1\n Port {server.port}\n IdentityFile {server.key}\n"
        f" UserKnownHostsFile {server.known_hosts}\n"
    )

    def write(fields: str) -> None:
        boards = tmp_path / "boards.toml"
        boards.write_text(f'[boards.pi5]\ntransport = "ssh"\nhost = "pi"\n{fields}\n')
        monkeypatch.setenv("BOARDFIT_BOARDS", str(boards))

    return write


def test_a_board_is_reached_by_its_name(server: Sshd, configured: Callable[[str], None]) -> None:
    configured("")
    with connect("pi5") as device:
        assert (device.name, device.kind, device.python) == ("pi5", "ssh", "python3")
        assert device.workspace == PurePosixPath(server.home / ".cache" / "boardfit")
        assert device.core == max(os.sched_getaffinity(0))
        assert device.description.kernel == os.uname().release


def test_paths_of_the_inventory_begin_at_the_boards_home(
    server: Sshd, configured: Callable[[str], None]
) -> None:
    core = min(os.sched_getaffinity(0))
    configured(f'workspace = "~/x y"\npython = "~/venv/bin/python"\ncore = {core}')
    with connect("pi5") as device:
        assert device.workspace == PurePosixPath(server.home / "x y")
        assert device.python == f"{server.home}/venv/bin/python"
        assert device.core == core


def test_a_core_that_the_board_lacks_is_named(configured: Callable[[str], None]) -> None:
    configured("core = 4000")
    with pytest.raises(InventoryError, match=r"board 'pi5': core = 4000 is none of the cores"):
        connect("pi5")


def test_what_the_inventory_says_goes_before_the_configuration(
    server: Sshd, configured: Callable[[str], None]
) -> None:
    stranger = server.make_key("another")
    configured(f'identity_file = "{stranger}"\nuser = "nobody-here"')
    with pytest.raises(DeviceUnauthorised, match="does not let 'nobody-here' in: it refused"):
        connect("pi5")
