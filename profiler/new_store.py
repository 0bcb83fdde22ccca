"""Files of samples that are put together from others: they appear whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ..devices.errors import TableFileError, storage_errors
from ..devices.files import exclusive
from .store import Store
from .store_file import lock_of


@contextlib.contextmanager
def whole_store(out: Path) -> Iterator[Store]:
    """A new file to be filled; it gets the name `out` when the block ends, and never if it fails.

    A process that is killed meanwhile leaves no `out`, but a folder `.boardfit-...` beside it,
    which the next attempt removes.
    Raises `TableFileError` where there is a file already, `InUse` where another process makes it,
    and `StorageError`.
    """
    with exclusive(lock_of(out)):
        if out.exists():
            raise TableFileError(f"{out} exists; give another path, or remove it")
        # Of equal length for all names: a name may be as long as names can be.
        digest = hashlib.sha256(os.fsencode(out.name)).hexdigest()[:16]
        folder = out.with_name(f".boardfit-{digest}")
        with storage_errors(out):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        try:
            with Store.create(folder / "table") as store:
                yield store
            with storage_errors(out):
                (folder / "table").replace(out)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
