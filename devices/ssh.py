"""Boards over SSH: commands, lines and files over one connection.

`ssh_config.py` says how a board is reached, `ssh_connect.py` reaches it, `ssh_link.py` keeps the
connection. Commands are run by /bin/sh, whatever the login shell is, and files travel over SFTP.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from .base import LINE_LIMIT, Completed, Device, Transport
from .board_entry import BoardEntry
from .conditions import describe, parse_cpu_list
from .errors import (
    CommandFailed,
    DeviceError,
    DeviceLost,
    InputError,
    InventoryError,
    StorageError,
)
from .files import open_source, write_whole
from .line_channel import STDERR_KEPT, LineChannel, run_to_end
from .process import brief
from .reconnecting import ReconnectingTransport
from .sftp import FAILURE, NO_SUCH_FILE, NOT_PERMITTED, Blocks, Sftp, SftpBroken, SftpStatus
from .ssh_config import Hop, find_route
from .ssh_connect import open_link, user_surroundings
from .ssh_link import SftpStream
from .ssh_process import RemoteProcess

_COPY = 1024 * 1024  # bytes copied at a time
_ASKING = 30.0  # seconds for a small command
_STALLED_AFTER = 60.0  # seconds for moving a file into place


def ssh_device(entry: BoardEntry) -> Device:
    """Reach a board as the inventory's entry and the user's ~/.ssh/config say.

    Without a core in the entry the worker is pinned to the last one that may be used there.
    Raises what `SshTransport` raises, and `InventoryError` where the board has no such core.
    """
    transport = ReconnectingTransport(
        partial(
            SshTransport.to,
            entry.host or entry.name,
            user=entry.user,
            port=entry.port,
            identity_file=entry.identity_file,
        )
    )
    try:
        home = _home(transport, entry)
        usable = _usable_cores(transport)
        if entry.core is not None and usable and entry.core not in usable:
            raise InventoryError(
                f"board {entry.name!r}: core = {entry.core} is none of the cores that may be used "
                f"there ({', '.join(map(str, usable))}); change it, or remove the line"
            )
        return Device(
            name=entry.name,
            kind="ssh",
            transport=transport,
            description=describe(transport),
            python=_at_home(entry.python or "python3", home),
            workspace=PurePosixPath(_at_home(str(entry.workspace or "~/.cache/boardfit"), home)),
            # Pinned even where nobody asked: a worker that wanders between cores is slow at random.
            core=entry.core if entry.core is not None else max(usable, default=None),
            benchmark_model=entry.benchmark_model,
        )
    except BaseException:
        transport.close()
        raise


class SshTransport:
    """The way to one board over one connection."""

    def __init__(self, route: Sequence[Hop]) -> None:
        """Reach the last host of a route.

        Raises `DeviceUnreachable`, `DeviceUnverified`, `DeviceUnauthorised`.
        """
        self._link = open_link(route)
        self._mark = f"boardfit-{secrets.token_hex(8)}"
        self._channels: list[LineChannel] = []
        self._sftp: Sftp | None = None
        self._copying = threading.Lock()
        self._closed = False

    @classmethod
    def to(
        cls,
        name: str,
        *,
        user: str | None = None,
        port: int | None = None,
        identity_file: Path | None = None,
    ) -> SshTransport:
        """Reach a host by its address or its name in ~/.ssh/config.

        Raises `InputError` where that cannot be understood, and what reaching it raises.
        """
        return cls(
            find_route(name, user_surroundings(), user=user, port=port, identity_file=identity_file)
        )

    def run(self, argv: Sequence[str], *, timeout: float) -> Completed:
        """Run a command to its end and return what it wrote; it reads nothing.

        `timeout` is in seconds. The code of a command that was ended by a signal is 128 and the
        signal's number. Raises `DeviceTimeout` after having ended the command and all that it
        started, `DeviceError` where it writes more than `LINE_LIMIT`, `CommandFailed` where the
        program does not exist, `DeviceLost`.
        """
        self._check_open()
        process = RemoteProcess(self._link, argv, self._mark, reads=False)
        done = run_to_end(process, argv, timeout=timeout)
        process.check_began(done.code)
        return done

    def open(self, argv: Sequence[str]) -> LineChannel:
        """Start a process with which lines are exchanged.

        Raises `CommandFailed` where there is no such program, `DeviceLost`.
        """
        self._check_open()
        process = RemoteProcess(self._link, argv, self._mark, stderr_kept=STDERR_KEPT)
        try:
            process.await_beginning()
        except BaseException:
            process.end()
            raise
        channel = LineChannel(brief(argv), process)
        self._channels = [*(other for other in self._channels if not other.ended), channel]
        return channel

    def push(self, local: Path, remote: PurePosixPath) -> None:
        """Copy a file to the board whole or not at all; its owner alone may read it there.

        It may be executed where it may be here. Folders that are made have the mode 0700. Raises
        `InputError` where the file is missing, `StorageError` where it cannot be written.
        """
        self._check_open()
        with open_source(local, InputError) as source, self._copier() as sftp:
            here = os.fstat(source.fileno())
            # Short and independent of the name, which may be as long as a name can be.
            temporary = os.fsencode(remote.parent / f".boardfit-{secrets.token_hex(8)}")
            mode = 0o600 | here.st_mode & 0o100
            try:
                try:
                    sftp.write(source, temporary, mode)
                except SftpStatus as status:
                    if status.code != NO_SUCH_FILE:
                        raise
                    # Looked for only now: mostly the folder is there, and each look takes time.
                    _make_folder(sftp, remote.parent)
                    sftp.write(source, temporary, mode)
                self._put_in_place(sftp, temporary, remote)
            except BaseException as error:
                with contextlib.suppress(SftpStatus):
                    if not sftp.broken:
                        sftp.remove(temporary)
                if isinstance(error, SftpStatus):
                    raise self._not_written(sftp, remote, here.st_size, error) from error
                raise

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        """Copy a file from the board whole or not at all.

        Raises `CommandFailed` where it is missing there or no ordinary file, `StorageError` where
        it cannot be written here.
        """
        self._check_open()
        with self._copier() as sftp:
            path = os.fsencode(remote)
            try:
                found = sftp.stat(path)
                if not found.is_file:  # a pipe would never end, nor would /dev/zero
                    raise CommandFailed(
                        f"cannot copy {remote}: it is not an ordinary file; check the name"
                    )
                with (
                    contextlib.closing(sftp.read(path, found.size)) as blocks,
                    io.BufferedReader(Blocks(_whole(blocks, found.size, remote)), _COPY) as source,
                ):
                    write_whole(cast(BinaryIO, source), local)
            except SftpStatus as status:
                raise _not_read(remote, status) from status

    def close(self) -> None:
        """End all processes that were opened, and the connection. Closing twice does nothing."""
        if self._closed:
            return
        self._closed = True
        for channel in self._channels:
            channel.close()
        self._link.close()

    def _check_open(self) -> None:
        if self._closed:
            raise DeviceLost(f"the way to {self._link.name} was closed; connect again")
        if self._link.lost:
            raise self._link.loss()

    @contextlib.contextmanager
    def _copier(self) -> Iterator[Sftp]:
        """The one SFTP session, for one file at a time; a broken one is not used again."""
        with self._copying:
            try:
                if self._sftp is None:
                    self._sftp = Sftp(SftpStream(self._link))
                yield self._sftp
            except SftpBroken as error:
                raise DeviceError(
                    f"the file server (SFTP) of {self._link.name} broke its protocol: {error}; "
                    "where a login there prints a greeting, let ~/.bashrc be silent without a "
                    "terminal: `[ -t 0 ] || return` at its top"
                ) from error
            finally:
                if self._sftp is not None and self._sftp.broken:
                    self._sftp.close()
                    self._sftp = None

    def _put_in_place(self, sftp: Sftp, temporary: bytes, remote: PurePosixPath) -> None:
        if sftp.can_replace:
            sftp.replace(temporary, os.fsencode(remote))
            return
        if _is_folder(sftp, remote):  # `mv` would move the file into it
            raise SftpStatus(FAILURE, "it is a folder")
        move = ["mv", "-f", "--", os.fsdecode(temporary), str(remote)]
        done = self.run(move, timeout=_STALLED_AFTER)
        if done.code != 0:
            raise SftpStatus(FAILURE, done.stderr.decode(errors="replace").strip())

    def _not_written(
        self, sftp: Sftp, remote: PurePosixPath, size: int, status: SftpStatus
    ) -> DeviceError | StorageError:
        """SFTP has one word for a full disk and for a dozen other reasons."""
        where = f"{remote} on {self._link.name}"
        if status.code == NOT_PERMITTED:
            return StorageError(
                f"cannot write {where}: permission denied; choose another `workspace` in "
                "boards.toml, or let the user write there"
            )
        free = None if sftp.broken else sftp.free_bytes(os.fsencode(remote.parent))
        if status.code == FAILURE and free is not None and free <= size:
            return StorageError(
                f"no space left while writing {where}: it has {size} bytes, {free} are free; free "
                "some and run the same command again"
            )
        return StorageError(
            f"cannot write {where}: {str(status).lower()}; check that it is no folder, that its "
            "folders are folders and its name is not too long"
        )


def _make_folder(sftp: Sftp, folder: PurePosixPath) -> None:
    """Make a folder and those that it lies in, where they are missing. Raises `SftpStatus`."""
    missing: list[PurePosixPath] = []
    for place in (folder, *folder.parents):
        try:
            if not sftp.stat(os.fsencode(place)).is_folder:
                raise SftpStatus(FAILURE, f"{place} is a file, not a folder")
            break
        except SftpStatus as status:
            if status.code != NO_SUCH_FILE:
                raise
            missing.append(place)
    for place in reversed(missing):
        try:
            sftp.make_folder(os.fsencode(place), 0o700)
        except SftpStatus:
            if not _is_folder(sftp, place):  # another process may have been faster
                raise


def _is_folder(sftp: Sftp, place: PurePosixPath) -> bool:
    try:
        return sftp.stat(os.fsencode(place)).is_folder
    except SftpStatus:
        return False


def _whole(blocks: Iterator[bytes], size: int, remote: PurePosixPath) -> Iterator[bytes]:
    """The blocks of a file; raises where there are fewer than it should have, or no end of them."""
    count = 0
    for block in blocks:
        count += len(block)
        if count > max(2 * size, LINE_LIMIT):
            raise DeviceError(f"{remote} grows faster than it can be copied; stop what writes it")
        yield block
    if count < size:
        raise CommandFailed(f"{remote} became shorter while it was copied; run it again")


def _not_read(remote: PurePosixPath, status: SftpStatus) -> CommandFailed:
    if status.code == NO_SUCH_FILE:
        return CommandFailed(f"cannot copy {remote}: it does not exist; check the name")
    return CommandFailed(f"cannot copy {remote}: {str(status).lower()}; let the user there read it")


def _usable_cores(transport: Transport) -> tuple[int, ...]:
    """The cores that a process may use there; none where the system does not tell."""
    try:
        done = transport.run(["cat", "/proc/self/status"], timeout=_ASKING)
    except CommandFailed:
        return ()
    found = re.search(rb"^Cpus_allowed_list:\s*(\S+)$", done.stdout, flags=re.MULTILINE)
    return parse_cpu_list(found[1].decode(errors="replace")) if found else ()


def _home(transport: Transport, entry: BoardEntry) -> str:
    done = transport.run(["sh", "-c", "cd && pwd -P"], timeout=_ASKING)
    home = done.stdout.decode(errors="surrogateescape").removesuffix("\n")
    if done.code != 0 or not home.startswith("/"):
        raise CommandFailed(
            f"board {entry.name!r}: its user has no home folder there; make one, or give another "
            "`user` in boards.toml"
        )
    return home


def _at_home(path: str, home: str) -> str:
    return f"{home}/{path[2:]}" if path.startswith("~/") else path
