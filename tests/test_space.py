"""Search spaces: what can be chosen, and which layers come of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boardfit.devices.errors import SpaceError
from boardfit.profiler.network_builder import NetworkBuilder
from boardfit.search.mobilenetv3 import (
    LARGE,
    SMALL,
    reference,
)
from boardfit.search.space import Coordinate, SearchSpace
from boardfit.search.spaces import open_space
from boardfit.search.stages import Bypass, Head, InvertedResidual, Residual, Stem

NAMES = ["mobilenetv3-32", "mobilenetv3-large"]
BLOCK = InvertedResidual("block", 8, 8, 16, (3, 5), squeeze_excite=True, granule=4)


def written(block: InvertedResidual, channels: int, *choice: int) -> list[str]:
    """The operators of a block on a 6x6 map with that many channels, with their output widths."""
    builder = NetworkBuilder((6, 6, channels))
    block.append(builder, 0, choice)
    return [f"{node.layer.op} {node.layer.output[-1]}" for node in builder.nodes]


def bypassed(block: InvertedResidual, channels: int, filters: int) -> list[str]:
    """What comes after the block's convolutions."""
    operators = written(block, channels, filters, block.expansion)
    ends = [i for i, operator in enumerate(operators) if operator.startswith("conv_2d")]
    return operators[ends[-1] + 1 :] if filters else operators


PLAIN = InvertedResidual("block", 8, 8, 8, granule=2)
DROP = replace(PLAIN, residual="drop")
PAD = replace(PLAIN, bypass="pad")


def test_a_block_counts_what_the_paper_counts() -> None:
    """Worked out by hand: a 6x6 map of 8 channels, expanded to 16, 5x5, a quarter squeezed."""
    builder = NetworkBuilder((6, 6, 8))
    BLOCK.append(builder, 0, (4, 16, 5))
    network = builder.build()
    expand, depthwise, project = 36 * 8 * 16, 36 * 25 * 16, 36 * 16 * 4
    squeeze, excite = 16 * 4, 4 * 16
    assert network.macs == expand + depthwise + squeeze + excite + project
    weights = 8 * 16 + 25 * 16 + 16 * 4 + 4 * 16 + 16 * 4
    biases = 16 + 16 + 4 + 16 + 4
    assert network.parameters == weights + biases


def test_a_block_with_everything() -> None:
    block = replace(BLOCK, activation="hard_swish")
    assert written(block, 8, 8, 16, 3) == [
        "conv_2d 16",
        "hard_swish 16",
        "depthwise_conv_2d 16",
        "hard_swish 16",
        "mean 16",
        "conv_2d 4",
        "conv_2d 16",
        "logistic 16",
        "mul 16",
        "conv_2d 8",
        "add 8",
    ]


def test_kernels_and_batch_norm_are_written_down() -> None:
    builder = NetworkBuilder((6, 6, 8))
    BLOCK.append(builder, 0, (4, 8, 3))
    named = {node.name: node for node in builder.nodes if node.name}
    assert {name: (node.layer.kernel, node.batch_norm) for name, node in named.items()} == {
        "block.expand": (1, True),
        "block.depthwise": (3, True),
        "block.squeeze": (1, False),
        "block.excite": (1, False),
        "block.project": (1, True),
    }
    assert named["block.expand"].layer.activation == "relu"
    assert named["block.project"].layer.activation == "none"


@pytest.mark.parametrize(
    ("block", "channels", "filters", "expected"),
    [
        # the residual, where both have a channel
        (PLAIN, 8, 8, ["add 8"]),
        (PLAIN, 4, 4, ["add 4"]),
        (PLAIN, 8, 4, ["slice 4", "add 4", "slice 4", "concatenation 8"]),
        (PLAIN, 4, 8, ["slice 4", "add 4", "slice 4", "concatenation 8"]),
        (PAD, 8, 4, ["pad 8", "add 8"]),
        (PAD, 4, 8, ["pad 8", "add 8"]),
        (PAD, 8, 8, ["add 8"]),
        # without it
        (DROP, 8, 8, []),
        (DROP, 8, 6, ["slice 2", "concatenation 8"]),
        (DROP, 4, 6, []),
        (replace(DROP, bypass="pad"), 8, 6, ["slice 2", "concatenation 8"]),
        # the block is gone
        (PLAIN, 8, 0, []),
        (PLAIN, 4, 0, []),
        (DROP, 8, 0, []),
        (replace(PLAIN, bypass_cap=4), 8, 0, ["slice 4"]),
        (replace(PLAIN, bypass_cap=4), 4, 0, []),
        # the cap limits what passes, not the residual
        (replace(PLAIN, bypass_cap=6), 8, 4, ["slice 4", "add 4", "slice 2", "concatenation 6"]),
        (replace(PLAIN, bypass_cap=4), 8, 6, ["slice 6", "add 6"]),
        (replace(PLAIN, bypass_cap=0), 8, 4, ["slice 4", "add 4"]),
        (replace(PAD, bypass_cap=6), 8, 4, ["slice 6", "pad 6", "add 6"]),
        (replace(PAD, bypass_cap=0), 8, 4, ["slice 4", "add 4"]),
        (replace(DROP, bypass_cap=6), 8, 4, ["slice 2", "concatenation 6"]),
        (replace(DROP, bypass_cap=4), 8, 4, []),
        # fewer filters than channels: what does not fit is dropped
        (replace(PLAIN, input_filters=12), 12, 0, ["slice 8"]),
        (replace(PLAIN, input_filters=12), 12, 4, ["slice 4", "concatenation 8"]),
        # stride 2
        (replace(PLAIN, stride=2), 8, 0, ["average_pool_2d 8"]),
        (replace(PLAIN, stride=2), 8, 6, ["slice 2", "average_pool_2d 2", "concatenation 8"]),
        (replace(PLAIN, stride=2, bypass_cap=4), 8, 0, ["slice 4", "average_pool_2d 4"]),
        (replace(PLAIN, stride=2, stride_bypass="none"), 8, 6, []),
    ],
)
def test_how_a_bypass_is_deployed(
    block: InvertedResidual, channels: int, filters: int, expected: list[str]
) -> None:
    assert bypassed(block, channels, filters) == expected


@pytest.mark.parametrize("residual", ["keep", "drop"])
@pytest.mark.parametrize("bypass", ["concat", "pad"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("cap", [None, 0, 2, 5, 99])
def test_the_number_of_output_channels(
    residual: Residual, bypass: Bypass, stride: int, cap: int | None
) -> None:
    """Z = max(min(C', cap), M), in every combination of widths."""
    for full_channels in (4, 8, 12):
        block = InvertedResidual(
            "block",
            full_channels,
            8,
            4,
            stride=stride,
            granule=2,
            residual=residual,
            bypass=bypass,
            bypass_cap=cap,
        )
        limit = 8 if cap is None else min(cap, 8)
        for channels in range(1, full_channels + 1):
            for filters in block.coordinates[0].values:
                builder = NetworkBuilder((6, 6, channels))
                output = block.append(builder, 0, (filters, 4))
                size = 6 // stride
                assert builder.shape(output) == (size, size, max(min(channels, limit), filters))
                for node in builder.nodes:  # no operator that does nothing
                    if node.layer.op in {"slice", "pad"}:
                        assert node.layer.output != node.layer.inputs[0]
                    assert node.layer.op != "concatenation" or len(node.inputs) > 1


def test_a_quarter_is_squeezed_and_rounded_up() -> None:
    block = replace(BLOCK, expansion=48)
    assert [block.squeezed(width) for width in (4, 16, 20, 48)] == [4, 4, 8, 12]
    assert replace(PLAIN, expansion=10).squeezed(10) == 4  # 2.5, in granules of 2


def test_a_block_without_bypass_cannot_vanish() -> None:
    assert PLAIN.coordinates[0].values == (0, 2, 4, 6, 8)
    assert replace(PLAIN, bypass_cap=0).coordinates[0].values == (2, 4, 6, 8)
    assert replace(PLAIN, stride=2).coordinates[0].values == (0, 2, 4, 6, 8)
    without = replace(PLAIN, stride=2, stride_bypass="none")
    assert without.coordinates[0].values == (2, 4, 6, 8)


def test_one_kernel_is_nothing_to_choose() -> None:
    assert [c.name for c in PLAIN.coordinates] == ["block.filters", "block.expansion"]
    assert [c.name for c in BLOCK.coordinates][-1] == "block.kernel"


def test_a_block_that_is_gone_has_one_name() -> None:
    assert BLOCK.canonical((0, 4, 3)) == (0, 16, 5)
    assert BLOCK.canonical((4, 4, 3)) == (4, 4, 3)
    assert written(BLOCK, 8, 0, 4, 3) == written(BLOCK, 8, 0, 16, 5)


def test_an_odd_size_cannot_be_averaged() -> None:
    block = replace(PLAIN, stride=2)
    with pytest.raises(SpaceError, match=r"block: .*not 5x5; .*stride_bypass='none'"):
        block.append(NetworkBuilder((5, 5, 8)), 0, (8, 8))
    with pytest.raises(SpaceError, match="not 25x25"):
        open_space("mobilenetv3-large", input_size=100)
    space = open_space("mobilenetv3-large", input_size=100, stride_bypass="none")
    assert space.network(space.smallest).output_shape == (1000,)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("stride", 3, "stride is 3"),
        ("residual", "kept", "residual is 'kept'; allowed: 'keep', 'drop'"),
        ("bypass", "add", "bypass is 'add'"),
        ("stride_bypass", "max_pool", "stride_bypass is 'max_pool'"),
        ("activation", "swish", "activation is 'swish'"),
        ("kernels", (3, 4), "must be odd"),
        ("kernels", (5, 3), "do not ascend"),
        ("kernels", (), "do not ascend"),
        ("bypass_cap", -1, "less than 0"),
        ("granule", 3, "not a multiple"),
        ("granule", 0, "granule of 0"),
        ("filters", 0, "not a multiple"),
        ("expansion", 7, "not a multiple"),
        ("input_filters", 9, "not a multiple"),
    ],
)
def test_a_block_that_makes_no_sense_is_refused(field: str, value: object, words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        replace(PLAIN, **{field: value})  # type: ignore[arg-type]


def test_more_channels_than_the_full_network_has_are_refused() -> None:
    with pytest.raises(SpaceError, match="block takes 8 channels, got 9"):
        PLAIN.append(NetworkBuilder((6, 6, 9)), 0, (8, 8))


def test_stem_and_head_refuse_what_makes_no_sense() -> None:
    with pytest.raises(SpaceError, match="stem: stride is 4"):
        Stem("stem", 16, stride=4)
    with pytest.raises(SpaceError, match="stem: a width of 12"):
        Stem("stem", 12)
    with pytest.raises(SpaceError, match="head: a width of 4"):
        Head("head", 16, 10, hidden=4)
    with pytest.raises(SpaceError, match="head: 0 classes"):
        Head("head", 16, 0)


def test_a_space_checks_itself() -> None:
    stem, head = Stem("stem", 8), Head("head", 8, 3)
    with pytest.raises(SpaceError, match="two coordinates have one name"):
        SearchSpace("twice", (8, 8, 3), 3, (stem, stem, head))
    with pytest.raises(SpaceError, match="does not end in 4"):
        SearchSpace("classes", (8, 8, 3), 4, (stem, head))
    block, wider = InvertedResidual("block", 8, 8, 8), Stem("stem", 16)
    with pytest.raises(SpaceError, match="block takes 8 channels, got 16"):
        SearchSpace("channels", (8, 8, 3), 3, (wider, block, head))


def test_coordinates_check_themselves() -> None:
    with pytest.raises(SpaceError, match="do not ascend"):
        Coordinate("a", "filters", (8, 8))
    with pytest.raises(SpaceError, match="too small"):
        Coordinate("a", "expansion", (0, 8))
    with pytest.raises(SpaceError, match="too small"):
        Coordinate("a", "filters", (-8, 8))


# --- the shipped spaces ---------------------------------------------------------------------------


def test_the_small_space_is_large_enough_to_show_something() -> None:
    """Fewer than 14 searchable widths show nothing about an optimiser."""
    space = open_space("mobilenetv3-32")
    kinds = [c.kind for c in space.coordinates]
    assert len(kinds) - kinds.count("kernel") == 22
    assert kinds.count("kernel") == 10
    assert 6e6 < space.network(space.full).macs < 12e6
    assert space.input_shape == (32, 32, 3)
    assert reference(space, SMALL) == space.full


def test_the_large_space_holds_the_published_network() -> None:
    """MobileNetV3-Large: 219 million MACs and 5.4 million parameters (Howard et al., table 3)."""
    space = open_space("mobilenetv3-large")
    published = space.network(reference(space, LARGE))
    assert published.macs == pytest.approx(219e6, rel=0.02)
    assert published.parameters == pytest.approx(5.4e6, rel=0.02)
    assert space.network(space.full).macs > 1.5 * published.macs


def test_a_reference_outside_of_the_space_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"block2\.filters = 24 is not allowed"):
        reference(open_space("mobilenetv3-large", granule=16), LARGE)


@pytest.mark.parametrize("name", NAMES)
def test_overrides_reach_the_blocks(name: str) -> None:
    space = open_space(name, classes=7, input_size=64, granule=16, residual="drop", bypass_cap=16)
    assert space.network(space.full).output_shape == (7,)
    assert space.input_shape == (64, 64, 3)
    blocks = [stage for stage in space.stages if isinstance(stage, InvertedResidual)]
    assert {(b.residual, b.cap, b.granule) for b in blocks} == {("drop", 16, 16)}
    widths = [v for c in space.coordinates if c.kind != "kernel" for v in c.values]
    assert all(width % 16 == 0 for width in widths)


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(SpaceError, match="'mobilenetv3-larg'; did you mean 'mobilenetv3-large'"):
        open_space("mobilenetv3-larg")
    with pytest.raises(SpaceError, match="known: mobilenetv3-32, mobilenetv3-large"):
        open_space("resnet")
    with pytest.raises(SpaceError, match="no field 'residuals'; did you mean 'residual'"):
        open_space("mobilenetv3-32", residuals="keep")
    with pytest.raises(SpaceError, match="no field 'plan'"):
        open_space("mobilenetv3-32", plan=LARGE)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"width_factor": 0}, "width_factor is 0"),
        ({"granule": 0}, "granule of 0"),
        ({"input_size": 0}, "0x0"),
        ({"classes": 0}, "0 classes"),
        ({"kernels": (3, 4)}, "must be odd"),
    ],
)
def test_overrides_that_make_no_sense_are_refused(overrides: dict[str, object], words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        open_space("mobilenetv3-32", **overrides)


@st.composite
def architectures(draw: st.DrawFn, space: SearchSpace) -> tuple[int, ...]:
    return tuple(draw(st.sampled_from(c.values)) for c in space.coordinates)


OPENED = {
    "32": open_space("mobilenetv3-32"),
    "32 pad": open_space("mobilenetv3-32", bypass="pad", bypass_cap=20),
    "large": open_space("mobilenetv3-large"),
    "large drop": open_space("mobilenetv3-large", residual="drop", stride_bypass="none"),
}


@pytest.mark.parametrize("name", OPENED)
@given(data=st.data())
@settings(deadline=None, max_examples=25)
def test_every_architecture_is_a_network(name: str, data: st.DataObject) -> None:
    space = OPENED[name]
    architecture = data.draw(architectures(space))
    network = space.network(architecture)
    assert network.output_shape == (space.classes,)
    assert network.macs <= space.network(space.full).macs
    canonical = space.canonical(architecture)
    space.check(canonical)
    assert space.network(canonical) == network
    assert space.canonical(canonical) == canonical


@pytest.mark.parametrize("name", OPENED)
@given(data=st.data())
@settings(deadline=None, max_examples=25)
def test_the_same_layers_have_the_same_canonical_architecture(
    name: str, data: st.DataObject
) -> None:
    """Both ways: two architectures are one exactly if their networks are."""
    space = OPENED[name]
    one = data.draw(architectures(space))
    # A neighbour: the same but for one coordinate, so that equal networks do come up.
    place = data.draw(st.integers(0, len(one) - 1))
    value = data.draw(st.sampled_from(space.coordinates[place].values))
    other = (*one[:place], value, *one[place + 1 :])
    same = space.network(one) == space.network(other)
    assert (space.canonical(one) == space.canonical(other)) == same


@pytest.mark.parametrize("name", NAMES)
def test_uniform_narrowing(name: str) -> None:
    space = open_space(name)
    assert space.narrowed(1.0) == space.full
    macs = [space.network(space.narrowed(scale)).macs for scale in (0.1, 0.3, 0.5, 0.7, 1.0)]
    assert macs == sorted(macs)
    assert macs[0] < macs[-1] / 10
    half = space.narrowed(0.5)
    for coordinate, value in zip(space.coordinates, half, strict=True):
        full = coordinate.values[-1]
        if coordinate.kind == "kernel":
            assert value == full
        else:
            assert value > 0
            step = full - coordinate.values[-2]
            assert abs(value - full / 2) <= max(step / 2, step - full / 2)


@pytest.mark.parametrize("name", NAMES)
def test_random_architectures(name: str) -> None:
    space = open_space(name)
    drawn = [space.random(np.random.default_rng(seed)) for seed in range(40)]
    assert drawn[0] == space.random(np.random.default_rng(0))
    full = space.network(space.full).macs
    shares = [space.network(architecture).macs / full for architecture in drawn]
    assert min(shares) < 0.1
    assert max(shares) > 0.6
    for architecture in drawn:
        space.check(architecture)
        assert space.canonical(architecture) == architecture


def test_an_architecture_of_another_space_is_refused() -> None:
    space = open_space("mobilenetv3-32")
    with pytest.raises(SpaceError, match="has 32 values, this one has 2"):
        space.network((8, 8))
    with pytest.raises(SpaceError, match=r"stem\.filters = 12 is not allowed; allowed: \(8, 16\)"):
        space.network((12, *space.full[1:]))
