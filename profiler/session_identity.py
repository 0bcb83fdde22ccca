"""Telling a session from any other, in whichever file it lies.

A session is a worker process. When it began and what the board's clock was at its first sample
are the same in every copy of its samples, and in nothing else.
"""

from __future__ import annotations

from .store import Store

Identity = tuple[str, float]  # when it began, the board's clock at its first sample (seconds)


def session_identities(store: Store) -> dict[int, tuple[int, Identity]]:
    """The run and the identity of each session that has samples, by its number in the file.

    Raises `TableFileError` where the file is damaged.
    """
    began = {number: started for number, _, started in store.sessions()}
    return {
        number: (run, (began[number], at)) for number, (run, at) in store.first_moments().items()
    }
