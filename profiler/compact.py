"""Models as they travel to a board: what the worker can draw itself is not sent.

Random weights are most of an operator's bytes, and the worker makes the same numbers from three
integers. They are found again in the finished bytes, so that this works for whatever was written
with `random_weights`; anything else is sent as it is.
"""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray

from .worker import POOL, drawn

Piece = str | list[int]  # BASE64, or exponent, start and count of drawn numbers
SHORTEST = 64  # numbers; fewer are sent as they are
_STEP = 4  # numbers; constants begin at multiples of 16 bytes


def _places() -> NDArray[np.int32]:
    """The place in the row of drawn numbers of each 16-bit fraction."""
    fractions = (drawn(0, 0, POOL).view(np.uint32) >> 7) & (POOL - 1)
    places = np.empty(POOL, np.int32)
    places[fractions] = np.arange(POOL, dtype=np.int32)
    return places


_PLACES = _places()


def compact(data: bytes) -> list[Piece]:
    """Split a model into pieces; those that were drawn become three integers.

    The worker's `b"".join` of them is `data`, exactly: a piece that differs is sent as it is.
    """
    pieces: list[Piece] = []
    sent = 0

    def send_until(end: int) -> None:
        if end > sent:
            pieces.append(base64.b64encode(data[sent:end]).decode("ascii"))

    for begin, piece in _drawn_pieces(data):
        end = begin + 4 * piece[2]
        if drawn(*piece).tobytes() == data[begin:end]:
            send_until(begin)
            pieces.append(list(piece))
            sent = end
    send_until(len(data))
    return pieces


def _drawn_pieces(data: bytes) -> list[tuple[int, tuple[int, int, int]]]:
    """Where numbers may have been drawn: the first byte, and exponent, start and count."""
    bits = np.frombuffer(data, np.uint32, len(data) // 4)[::_STEP]
    if len(bits) < SHORTEST // _STEP:
        return []
    places = _PLACES[(bits >> 7) & (POOL - 1)]
    exponents = ((bits >> 23) & 0xFF).astype(np.int32) - 127
    # A drawn number's place goes on by the step, and its exponent stays.
    goes_on = (places[1:] - places[:-1]) & (POOL - 1) == _STEP
    goes_on &= exponents[1:] == exponents[:-1]
    changes = np.flatnonzero(np.diff(np.concatenate([[False], goes_on, [False]])))
    found = []
    for first, last in zip(changes[::2].tolist(), changes[1::2].tolist(), strict=True):
        count = (last - first + 1) * _STEP
        count = min(count, len(data) // 4 - first * _STEP)
        # The numbers after the last sure one belong to it while they fit.
        exponent, start = int(exponents[first]), int(places[first])
        count = _fitting(data, 4 * _STEP * first, exponent, start, count)
        if count >= SHORTEST:
            found.append((4 * _STEP * first, (exponent, start, count)))
    return found


def _fitting(data: bytes, begin: int, exponent: int, start: int, count: int) -> int:
    """How many of the last few numbers of a piece are drawn, too."""
    certain = count - _STEP + 1
    last = drawn(exponent, start + certain, count - certain)
    same = np.frombuffer(data, np.float32, count - certain, begin + 4 * certain) == last
    return certain + int(np.cumprod(same).sum())
