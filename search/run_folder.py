"""The folder of one search: whose it is, and how long its parts took."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..devices.errors import RunFolderError
from ..devices.files import write_atomically


def begin_run(folder: Path, identity: Mapping[str, Any]) -> None:
    """Claim the folder for this run, or see that it is this run's.

    Raises `RunFolderError` where it was begun with other settings.
    """
    path = folder / "run.json"
    # Through JSON, so that what was read back equals what was just made.
    identity = json.loads(json.dumps(identity))
    if path.exists():
        try:
            found = json.loads(path.read_bytes())
            changed = sorted(
                name for name in {*found, *identity} if found.get(name) != identity.get(name)
            )
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise RunFolderError(
                f"{path} cannot be read ({error}); choose another folder"
            ) from error
        if changed:
            raise RunFolderError(
                f"{folder} was begun with another {', '.join(changed)}; choose another folder "
                "with --out, or remove it to begin anew"
            )
        return
    write_atomically(path, json.dumps(identity, indent=1, sort_keys=True).encode())


class Parts:
    """How long each part took, over all processes that worked on it (a kill loses its own)."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "parts.json"
        self.seconds: dict[str, float] = {}
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            stored = json.loads(self._path.read_bytes())
            self.seconds = {str(name): float(value) for name, value in stored.items()}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - begun
            write_atomically(self._path, json.dumps(self.seconds).encode())
