"""Layers in a row that were priced together."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boardfit.devices.errors import MissingEntry, TableFileError
from boardfit.profiler.fragments import Fragment, PriceList, describe_fragment, read_fragment
from boardfit.profiler.layers import Layer

from .small_board import small_network

# Five layers that can stand in any order: what counts here are their names.
LETTERS = {name: Layer("relu", ((4, 4, 8 + i),), (4, 4, 8 + i)) for i, name in enumerate("abcde")}


def layers(text: str) -> list[Layer]:
    return [LETTERS[letter] for letter in text]


def fragment(text: str) -> Fragment:
    return Fragment(tuple(layers(text)))


def single(layer: Layer) -> float:
    return float(2 ** [*LETTERS.values()].index(layer))


def test_the_longest_fragment_that_begins_at_a_layer_is_taken() -> None:
    prices = PriceList(single, {fragment("ab"): 100.0, fragment("abc"): 1000.0})
    assert prices(layers("abc")) == 1000.0
    assert prices(layers("abd")) == 100.0 + 8
    assert prices(layers("ba")) == 3.0
    assert prices(layers("abcab")) == 1100.0
    assert prices(layers("")) == 0.0


def test_what_no_fragment_holds_falls_back_to_the_operator_or_is_missing() -> None:
    def none(layer: Layer) -> float:
        raise MissingEntry(layer.signature)

    prices = PriceList(none, {fragment("ab"): 5.0})
    assert prices(layers("abab")) == 10.0
    with pytest.raises(MissingEntry, match="4x4x10"):
        prices(layers("abc"))


@given(
    st.text("abcde", max_size=12),
    st.dictionaries(st.text("abcde", min_size=1, max_size=4), st.floats(1, 100), max_size=6),
)
def test_pricing_covers_every_layer_once(text: str, known: dict[str, float]) -> None:
    """Equal to taking the longest match at each place, spelt out."""
    expected, rest = [], text
    while rest:
        longest = max((name for name in known if rest.startswith(name)), key=len, default="")
        expected.append(known[longest] if longest else single(LETTERS[rest[0]]))
        rest = rest[len(longest or rest[0]) :]
    prices = PriceList(single, {fragment(name): seconds for name, seconds in known.items()})
    assert prices(layers(text)) == pytest.approx(math.fsum(expected), rel=1e-9)


def test_each_layer_is_priced_once() -> None:
    asked = []

    def price(layer: Layer) -> float:
        asked.append(layer)
        return 1.0

    prices = PriceList(price, {})
    assert prices(layers("abab")) == prices(layers("baba")) == 4.0
    assert len(asked) == 2


def test_a_fragment_survives_json() -> None:
    found = Fragment(small_network(16, 3).layers)
    assert read_fragment(describe_fragment(found)) == found
    assert found.signature.count(" | ") == 4
    assert found.macs == small_network(16, 3).macs


@pytest.mark.parametrize("content", [{}, {"layers": 5}, {"layers": []}, {"layers": [{}]}])
def test_a_fragment_that_is_none_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(TableFileError, match="cannot be read"):
        read_fragment(content)
