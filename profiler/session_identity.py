"""Telling a session from any other, in whichever file it lies.

A session is a worker process. When it began and what the board's clock was at its first sample
are the same in every copy of its samples, and in nothing else.
"""

from __future__ import annotations

from ..devices.errors import TableFileError
from .store import Store

Identity = tuple[str, float]  # when it began, the board's clock at its first sample (seconds)


def session_identities(store: Store) -> dict[int, tuple[int, Identity]]:
    """The run and the identity of each session that has samples, by its number in the file.

    Raises `TableFileError` where the file is damaged.
    """
    try:
        first: dict[int, float] = {}
        runs: dict[int, int] = {}
        for row in store.samples():
            session, at = int(row[6]), float(row[7])
            first[session] = min(at, first.get(session, at))
            runs[session] = int(row[2])
        began = {number: str(started) for number, _, started in store.sessions()}
        return {number: (runs[number], (began[number], at)) for number, at in first.items()}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise TableFileError(
            f"{store.path} is damaged: its sessions cannot be read ({error!r}); build it again, "
            "or restore a copy"
        ) from error
