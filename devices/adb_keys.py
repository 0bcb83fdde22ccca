"""The keys by which boards know this computer: those of Android's own tools, made where missing.

`~/.android/adbkey` is the user's own, which a board is asked to allow; $ADB_VENDOR_KEYS names
further ones (files, or folders of files `*.adb_key`) that a board may know already.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import InputError, StorageError, storage_errors

_LARGEST_KEY = 64 * 1024  # bytes of a key's file


@dataclass(frozen=True)
class FileKey:
    """A key from a file (see `adb_protocol.Key`); the private part is in no text about it."""

    path: Path
    public: bytes
    signer: Any = field(repr=False)  # adb-shell's

    def sign(self, token: bytes) -> bytes:
        """The signature of a board's token."""
        signature: bytes = self.signer.Sign(token)
        return signature


def load_keys(environment: Mapping[str, str] = os.environ) -> list[FileKey]:
    """The user's own key first, made where there is none, then those of $ADB_VENDOR_KEYS.

    Raises `InputError` where one cannot be used, `StorageError` where none can be made.
    """
    own = _folder(environment) / "adbkey"
    if not own.exists():
        make_key(own)
    found = [own, *_vendor_keys(environment.get("ADB_VENDOR_KEYS", ""))]
    return [read_key(path) for path in dict.fromkeys(found)]


def read_key(path: Path) -> FileKey:
    """The key of a private key's file. Raises `InputError` where it is none."""
    from adb_shell.auth.keygen import encode_pubkey
    from adb_shell.auth.sign_pythonrsa import PythonRSASigner

    try:
        with path.open("rb") as file:
            private = file.read(_LARGEST_KEY)
        public = _read_public(path) or _public(encode_pubkey(str(path)))
        return FileKey(path, public, PythonRSASigner(pub=public, priv=private))
    except OSError as error:
        raise InputError(f"the key {path} cannot be read: {error.strerror}") from error
    except Exception as error:  # whatever the parsers of keys meet in a file that holds none
        raise InputError(
            f"{path} holds no key of adb's; remove it and a new one is made, which every board has "
            "to allow once (a key of $ADB_VENDOR_KEYS: take it out there)"
        ) from error


def make_key(path: Path) -> None:
    """Make a key that its owner alone can read, unless another process makes one meanwhile.

    Raises `StorageError` where it cannot be written.
    """
    from adb_shell.auth.keygen import keygen

    with storage_errors(path):
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        # adb-shell writes into files that everybody may read: in a folder that nobody else enters.
        with tempfile.TemporaryDirectory(prefix=".boardfit-", dir=path.parent) as name:
            made = Path(name) / "adbkey"
            keygen(str(made))
            made.chmod(0o600)
            with contextlib.suppress(FileExistsError):
                os.link(made, path)
                made.with_suffix(".pub").replace(path.with_suffix(".pub"))


def _folder(environment: Mapping[str, str]) -> Path:
    home = environment.get("HOME") or os.path.expanduser("~")
    if not os.path.isabs(home):
        raise StorageError("there is no home folder for adb's keys; set HOME")
    return Path(home) / ".android"


def _vendor_keys(value: str) -> Iterator[Path]:
    for name in filter(None, value.split(os.pathsep)):
        path = Path(name)
        if path.is_dir():
            yield from sorted(path.glob("*.adb_key"))
        elif path.exists():
            yield path
        else:
            raise InputError(f"ADB_VENDOR_KEYS names {path}, which does not exist; change it")


def _read_public(path: Path) -> bytes | None:
    try:
        with path.with_name(path.name + ".pub").open("rb") as file:
            return file.read(_LARGEST_KEY).strip() or None
    except FileNotFoundError:
        return None


def _public(encoded: bytes) -> bytes:
    import base64

    return base64.b64encode(encoded) + b" boardfit"
