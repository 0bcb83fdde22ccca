"""Depth spaces: decoder stages with bypass, skip connections, and everything that prices, trains
and emits them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from boardfit.devices.errors import SpaceError
from boardfit.profiler.network_builder import NetworkBuilder
from boardfit.search import metrics
from boardfit.search.depth_stages import MapHead, SkipSum, Upsample
from boardfit.search.fastdepth import Plan, fastdepth
from boardfit.search.mobilenetv3 import Row
from boardfit.search.network_module import NetworkModule
from boardfit.search.space import Coordinate, Join, SearchSpace
from boardfit.search.spaces import open_space
from boardfit.search.stages import Stem
from boardfit.search.supernet import SuperNetwork
from boardfit.search.tabulate import blocks, signatures
from boardfit.search.widths import draw_rows

from .test_emission_equality import check, randomise
from .test_supernet import check_masked_equals_sliced, super_network

SMALL = open_space("fastdepth-64")


def layers(stage: Upsample, channels: int, choice: tuple[int, ...]) -> list[str]:
    builder = NetworkBuilder((4, 4, channels))
    output = stage.append(builder, 0, choice)
    assert builder.shape(output)[:2] == (8, 8)
    return [f"{node.layer.op} {node.layer.output[-1]}" for node in builder.nodes]


PLAIN = Upsample("up", 16, 8, (5,), granule=4)


@pytest.mark.parametrize(
    ("stage", "channels", "choice", "expected"),
    [
        (PLAIN, 16, (8,), ["depthwise_conv_2d 16", "conv_2d 8", "resize_bilinear 8"]),
        (
            PLAIN,
            16,
            (4,),
            [
                "depthwise_conv_2d 16",
                "conv_2d 4",
                "slice 4",
                "concatenation 8",
                "resize_bilinear 8",
            ],
        ),
        (PLAIN, 4, (4,), ["depthwise_conv_2d 4", "conv_2d 4", "resize_bilinear 4"]),
        (PLAIN, 16, (0,), ["slice 8", "resize_bilinear 8"]),
        (PLAIN, 8, (0,), ["resize_bilinear 8"]),
        (
            Upsample("up", 16, 8, (5,), 4, "nearest", bypass_cap=0),
            16,
            (4,),
            ["depthwise_conv_2d 16", "conv_2d 4", "resize_nearest_neighbor 4"],
        ),
    ],
)
def test_a_decoder_stage_is_deployed_as(
    stage: Upsample, channels: int, choice: tuple[int, ...], expected: list[str]
) -> None:
    assert layers(stage, channels, choice) == expected


def test_a_decoder_stage_may_vanish_only_with_a_bypass() -> None:
    assert PLAIN.coordinates == (Coordinate("up.filters", "filters", (0, 4, 8)),)
    capped = Upsample("up", 16, 8, (3, 5), 4, bypass_cap=0)
    assert [c.values for c in capped.coordinates] == [(4, 8), (3, 5)]
    searched = Upsample("up", 16, 8, (3, 5), 4)
    assert searched.canonical((0, 3)) == (0, 5)
    assert searched.canonical((4, 3)) == (4, 3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Upsample("up", 16, 8, upsampling="cubic"), "upsampling is 'cubic'; allowed"),  # type: ignore[arg-type]
        (lambda: Upsample("up", 16, 8, (4,)), "must be odd"),
        (lambda: Upsample("up", 16, 8, bypass_cap=-1), "bypass_cap is -1"),
        (lambda: Upsample("up", 16, 12), "12 is not a multiple"),
        (lambda: Upsample("up", 12, 16), "12 is not a multiple"),
        (lambda: SkipSum("skip", "stem", bypass="sum"), "bypass is 'sum'"),  # type: ignore[arg-type]
        (lambda: MapHead("head", 0), "a map of 0 values"),
        (lambda: PLAIN.append(NetworkBuilder((4, 4, 24)), 0, (8,)), "takes 16 channels, got 24"),
        (lambda: open_space("fastdepth-64", input_size=80), "80x80 cannot be halved 5 times"),
        (lambda: open_space("fastdepth-64", width_factor=0), "width_factor is 0"),
        (lambda: open_space("fastdepth-64", granule=0), "granule of 0"),
    ],
)
def test_what_makes_no_sense_is_refused(make: object, words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        make()  # type: ignore[operator]


def test_a_join_needs_its_source_before_it() -> None:
    stem, head = Stem("stem", 8), MapHead("head")
    up = Upsample("up", 8, 8)
    with pytest.raises(SpaceError, match="skip joins the output of 'up', but 0 stages before it"):
        SearchSpace("x", (8, 8, 3), 1, (stem, SkipSum("skip", "up"), up, head))
    with pytest.raises(SpaceError, match=r"skip adds stem, whose output is .* same"):
        SearchSpace("x", (8, 8, 3), 1, (stem, up, SkipSum("skip", "stem"), head))


@pytest.mark.parametrize("bypass", ["concat", "pad"])
def test_a_skip_adds_up_the_channels_that_both_have(bypass: str) -> None:
    join = SkipSum("skip", "source", bypass)  # type: ignore[arg-type]
    assert isinstance(join, Join)
    for channels, other in ((3, 3), (2, 5), (5, 2)):
        builder = NetworkBuilder((4, 4, 3))
        x = builder.conv_2d(0, channels, name="x")
        skip = builder.conv_2d(0, other, name="skip")
        output = join.join(builder, x, skip, ())
        assert output == len(builder.nodes)
        module = NetworkModule(builder.build(), torch.Generator().manual_seed(0))
        image = torch.rand(1, 3, 4, 4)
        one, two = module.layer("x")(image), module.layer("skip")(image)
        expected = torch.zeros(1, max(channels, other), 4, 4)
        expected[:, :channels] += one
        expected[:, :other] += two
        torch.testing.assert_close(module(image), expected)


# Masked and sliced


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """Decoders with wider and narrower inputs and skips, and every option."""

    def width() -> int:
        return 2 * draw(st.integers(1, 4))

    rows = (Row(3, width(), width(), False, "relu", 2), Row(3, width(), width(), False, "relu", 2))
    return fastdepth(
        "small",
        Plan(width(), rows, (width(), width(), width())),
        input_size=8,
        width_factor=1.0,
        kernels=draw(st.sampled_from([(3,), (3, 5)])),
        granule=2,
        bypass=draw(st.sampled_from(["concat", "pad"])),
        residual=draw(st.sampled_from(["keep", "drop"])),
        stride_bypass=draw(st.sampled_from(["average_pool", "none"])),
        bypass_cap=draw(st.sampled_from([None, 0, 2, 4])),
        upsampling=draw(st.sampled_from(["bilinear", "nearest"])),
    )


@given(space=spaces(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_masked_equals_sliced(space: SearchSpace, seed: int) -> None:
    draw = draw_rows(space, np.random.default_rng(seed), "uniform", 4)
    check_masked_equals_sliced(super_network(space), draw)


@given(space=spaces(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_prices_are_those_of_the_networks(space: SearchSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    architectures = [space.full, space.smallest, *(space.random(rng) for _ in range(12))]
    networks = [space.network(architecture) for architecture in architectures]
    for make, field in ((metrics.macs, "macs"), (metrics.parameters, "parameters"),
                        (metrics.peak_memory, "peak_memory")):  # fmt: skip
        metric = make(space)
        expected = [getattr(network, field) for network in networks]
        assert metric(architectures).tolist() == expected
        assert metric(architectures[::-1]).tolist() == expected[::-1]


@given(space=spaces(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=8)
def test_every_operator_is_found_before_it_is_measured(space: SearchSpace, seed: int) -> None:
    found = signatures(space, np.random.default_rng(0))
    rng = np.random.default_rng(seed)
    for _ in range(20):
        architecture = tuple(int(rng.choice(c.values)) for c in space.coordinates)
        for layer in space.network(architecture).layers:
            assert layer.signature in found
    assert blocks(space, None) is None  # a model of a join alone would need two inputs


def test_masked_equals_sliced_in_the_shipped_space() -> None:
    network = super_network(SMALL)
    rows = draw_rows(SMALL, np.random.default_rng(5), "mixed", 4)
    check_masked_equals_sliced(network, rows)


def test_the_shipped_spaces() -> None:
    for name, size in (("fastdepth-64", 64), ("fastdepth", 224)):
        space = open_space(name)
        assert space.network(space.full).output_shape == (size, size, 1)
        joins = [stage for stage in space.stages if isinstance(stage, Join)]
        assert len(joins) == 3
        assert (
            len({space.network(space.random(np.random.default_rng(s))).macs for s in range(9)}) == 9
        )
    assert space.network(space.narrowed(0.5)).output_shape == (224, 224, 1)


# Emission


@pytest.mark.parametrize("upsampling", ["bilinear", "nearest"])
def test_the_emitted_network_computes_the_same(upsampling: str) -> None:
    space = open_space("fastdepth-64", input_size=32, upsampling=upsampling)
    generator = torch.Generator().manual_seed(0)
    network = SuperNetwork(space, generator).eval()
    randomise(network, generator)
    rng = np.random.default_rng(1)
    for seed, architecture in enumerate(
        [space.full, space.smallest, *(space.random(rng) for _ in range(6))]
    ):
        check(network.slice(architecture), seed)
