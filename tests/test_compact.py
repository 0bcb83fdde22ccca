"""What the worker puts together is what was written, byte for byte, and little of it is sent."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boardfit.profiler.compact import Piece, compact
from boardfit.profiler.emit_tflite import emit_layer
from boardfit.profiler.layers import Layer
from boardfit.profiler.worker import POOL, drawn


def put_together(pieces: Sequence[Piece]) -> bytes:
    """What a worker does with the pieces that it receives as JSON."""
    return b"".join(
        base64.b64decode(piece) if isinstance(piece, str) else drawn(*piece).tobytes()
        for piece in json.loads(json.dumps(pieces))
    )


parts = st.one_of(
    st.binary(max_size=400),
    st.tuples(st.integers(-6, 2), st.integers(0, POOL), st.integers(0, 700)).map(
        lambda place: drawn(*place).tobytes()
    ),
    st.just(np.zeros(300, np.float32).tobytes()),
    st.just(np.random.default_rng(0).random(500, np.float32).tobytes()),
)


@given(st.lists(parts, max_size=6))
def test_nothing_is_lost(found: list[bytes]) -> None:
    data = b"".join(found)
    assert put_together(compact(data)) == data


@pytest.mark.parametrize(
    "layer",
    [
        Layer("conv_2d", ((10, 10, 96),), (10, 10, 576)),
        Layer("depthwise_conv_2d", ((10, 10, 672),), (10, 10, 672), kernel=5),
        Layer("fully_connected", ((960,),), (1280,)),
    ],
    ids=lambda layer: layer.op,
)
def test_random_weights_are_not_sent(layer: Layer) -> None:
    data = emit_layer(layer)
    pieces = compact(data)
    assert put_together(pieces) == data
    assert len(json.dumps(pieces)) < 2000 < len(data) / 20


def test_a_changed_weight_is_sent_as_it_is() -> None:
    values = drawn(-3, 100, 4000)
    values[2000] = 7.0
    assert put_together(compact(values.tobytes())) == values.tobytes()


def test_drawn_numbers_are_all_different_and_of_both_signs() -> None:
    values = drawn(0, 0, POOL)
    assert len(np.unique(np.abs(values))) == POOL
    assert np.abs(values).min() >= 1.0
    assert np.abs(values).max() < 2.0
    assert abs(float(values.mean())) < 0.01
    assert abs(float(np.corrcoef(values[:-1], values[1:])[0, 1])) < 0.02


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 3 * POOL), st.integers(0, 3 * POOL))
def test_drawn_numbers_go_round(start: int, count: int) -> None:
    values = drawn(1, start, count)
    assert len(values) == count
    assert np.array_equal(values, drawn(1, start % POOL, count))
    if count > 1:
        assert np.array_equal(values[1:], drawn(1, start + 1, count - 1))
