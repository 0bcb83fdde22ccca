"""Masked and sliced networks compute the same; samplers draw what they promise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from boardfit.devices.errors import DataError, InputError, SpaceError
from boardfit.profiler.network_builder import NetworkBuilder
from boardfit.search.metrics import macs
from boardfit.search.network_module import WeightedLayer, cut
from boardfit.search.settings import SearchSettings
from boardfit.search.space import Choice, Coordinate, SearchSpace, Stage
from boardfit.search.spaces import open_space
from boardfit.search.stages import Bypass, Head, InvertedResidual, Residual, Stem
from boardfit.search.strategies import make_sampler
from boardfit.search.supernet import FindLayer, SuperNetwork, masked, reestimate, width_mask
from boardfit.search.widths import (
    Draw,
    Law,
    OrderedDropout,
    Sampler,
    Sandwich,
    SinglePath,
    draw_rows,
    repeat,
)

slow_first_example = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


def randomise(network: torch.nn.Module, seed: int = 0) -> None:
    """Weights and batch statistics at which nothing holds by accident."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in network.modules():
            if not isinstance(layer, WeightedLayer):
                continue
            if layer.bias is not None:
                layer.bias.normal_(0.0, 0.5, generator=generator)
            if layer.norm is not None:
                norm = layer.norm
                assert norm.running_mean is not None
                assert norm.running_var is not None
                norm.weight.uniform_(0.5, 1.5, generator=generator)
                norm.bias.normal_(0.3, 0.5, generator=generator)
                norm.running_mean.normal_(0.0, 0.5, generator=generator)
                norm.running_var.uniform_(0.5, 2.0, generator=generator)


def super_network(space: SearchSpace, dtype: torch.dtype = torch.float64) -> SuperNetwork:
    network = SuperNetwork(space, torch.Generator().manual_seed(1))
    randomise(network)
    return network.to(dtype).eval()


def check_masked_equals_sliced(
    network: SuperNetwork, draw: Draw, *, tolerance: float = 1e-10
) -> None:
    """Each image of a masked batch against its own sliced network (float64: no room for luck)."""
    height, width, channels = network.space.input_shape
    dtype = next(network.parameters()).dtype
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(len(draw), channels, height, width, generator=generator).to(dtype)
    with torch.no_grad():
        outputs = network.forward_masked(images, draw)
        for image, output, row in zip(images, outputs, draw, strict=True):
            sliced = network.slice(tuple(int(value) for value in row))(image[None])[0]
            assert sliced.shape == output.shape
            scale = max(1.0, float(sliced.abs().max()))
            assert float((sliced - output).abs().max()) <= tolerance * scale


@st.composite
def small_spaces(draw: st.DrawFn) -> SearchSpace:
    """Spaces with blocks of every kind, wider and narrower than what comes in."""
    granule = draw(st.sampled_from([1, 2, 3]))
    widths = st.sampled_from([granule * count for count in (1, 2, 3, 4)])
    stem = Stem("stem", draw(widths), stride=draw(st.sampled_from([1, 2])), granule=granule)
    stages: list[Stage] = [stem]
    channels = stem.filters
    for number in range(draw(st.integers(1, 4))):
        # Half of the blocks keep the width, so that they have a residual.
        filters = channels if draw(st.booleans()) else draw(widths)
        stages.append(
            InvertedResidual(
                name=f"block{number}",
                input_filters=channels,
                filters=filters,
                expansion=granule * draw(st.sampled_from([2, 5])),
                kernels=draw(st.sampled_from([(3,), (3, 5), (1, 3, 7)])),
                stride=draw(st.sampled_from([1, 1, 2])),
                squeeze_excite=draw(st.booleans()),
                activation=draw(st.sampled_from(["relu", "hard_swish"])),
                granule=granule,
                residual=draw(st.sampled_from(["keep", "drop"])),
                bypass=draw(st.sampled_from(["concat", "pad"])),
                stride_bypass=draw(st.sampled_from(["average_pool", "none"])),
                bypass_cap=draw(st.sampled_from([None, None, 0, 1, 2, 4, 5, 99])),
            )
        )
        channels = filters
    hidden = draw(st.sampled_from([None, 2 * granule]))
    stages.append(Head("head", 3 * granule, 3, hidden, granule))
    return SearchSpace("small", (32, 32, 3), 3, tuple(stages))


@st.composite
def draws(draw: st.DrawFn, space: SearchSpace, images: int) -> Draw:
    """Any architectures of a space, kernels in common; hypothesis shrinks towards small ones."""
    kernels = [draw(st.sampled_from(c.values)) for c in space.coordinates]
    return np.array(
        [
            [
                kernel if c.kind == "kernel" else draw(st.sampled_from(c.values))
                for c, kernel in zip(space.coordinates, kernels, strict=True)
            ]
            for _ in range(images)
        ]
    )


@given(st.data())
@settings(slow_first_example, max_examples=150)
def test_masked_equals_sliced_in_small_spaces(data: st.DataObject) -> None:
    space = data.draw(small_spaces())
    check_masked_equals_sliced(super_network(space), data.draw(draws(space, 4)))


@cache
def network_of(name: str, **overrides: object) -> SuperNetwork:
    return super_network(open_space(name, **overrides))


VARIANTS: list[dict[str, object]] = [
    {},
    {"bypass": "pad"},
    {"residual": "drop"},
    {"bypass_cap": 20},
    {"bypass_cap": 0},
    {"stride_bypass": "none", "bypass": "pad", "bypass_cap": 12},
]


@pytest.mark.parametrize("overrides", VARIANTS, ids=str)
@pytest.mark.parametrize("name", ["mobilenetv3-32", "mobilenetv3-large"])
def test_masked_equals_sliced_in_the_shipped_spaces(
    name: str, overrides: dict[str, object]
) -> None:
    size = 32 if name == "mobilenetv3-32" else 64
    large = {"classes": 10, "width_factor": 0.5} if name == "mobilenetv3-large" else {}
    network = network_of(name, input_size=size, **large, **overrides)
    rng = np.random.default_rng(5)
    rows = draw_rows(network.space, rng, "mixed", 6)
    check_masked_equals_sliced(network, rows)
    ends = np.array([network.space.full, network.space.smallest])
    kernels = [i for i, c in enumerate(network.space.coordinates) if c.kind == "kernel"]
    ends[:, kernels] = ends[0, kernels]
    check_masked_equals_sliced(network, ends)


@pytest.mark.parametrize("name", ["mobilenetv3-32", "mobilenetv3-large"])
def test_masked_equals_sliced_in_single_precision(name: str) -> None:
    network = super_network(open_space(name, input_size=32, classes=10), torch.float32)
    rows = draw_rows(network.space, np.random.default_rng(6), "mixed", 4)
    check_masked_equals_sliced(network, rows, tolerance=1e-5)


@pytest.mark.parametrize("bypass", ["concat", "pad"])
@pytest.mark.parametrize("cap", [None, 0, 2, 4, 6])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("channels", "filters"), [(4, 8), (8, 8), (8, 4)])
def test_every_combination_of_one_block(
    channels: int, filters: int, stride: int, cap: int | None, bypass: Bypass
) -> None:
    """Every width of the stem before every width of the block: C' < M, = M, > M, and M = 0."""
    block = InvertedResidual(
        "block", channels, filters, 4, (3, 5), stride, granule=2, bypass=bypass, bypass_cap=cap
    )
    stages = (Stem("stem", channels, granule=2), block, Head("head", 6, 3, granule=2))
    space = SearchSpace("one block", (8, 8, 3), 3, stages)
    rows = np.array(
        [
            (before, kept, expansion, 3, 6)
            for before in space.coordinates[0].values
            for kept in block.coordinates[0].values
            for expansion in (2, 4)
        ]
    )
    check_masked_equals_sliced(super_network(space), rows)


@pytest.mark.parametrize("bypass", ["concat", "pad"])
@pytest.mark.parametrize("residual", ["keep", "drop"])
@pytest.mark.parametrize("cap", [None, 0, 2, 6])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("channels", "filters"), [(4, 8), (8, 8), (8, 4)])
def test_the_rule_channel_by_channel(
    channels: int, filters: int, stride: int, cap: int | None, residual: Residual, bypass: Bypass
) -> None:
    """What the definition says, put together by a loop from f(x) and x computed apart."""
    stem = Stem("stem", channels, granule=2)
    block = InvertedResidual(
        name="block",
        input_filters=channels,
        filters=filters,
        expansion=4,
        stride=stride,
        granule=2,
        residual=residual,
        bypass=bypass,
        bypass_cap=cap,
    )
    alone = replace(block, residual="drop", bypass_cap=0)
    network = super_network(SearchSpace("block", (8, 8, 3), filters, (stem, block)))
    only_f = super_network(SearchSpace("f", (8, 8, 3), filters, (stem, alone)))
    only_x = super_network(SearchSpace("x", (8, 8, 3), channels, (stem,)))
    only_f.load_state_dict(network.state_dict())
    only_x.load_state_dict(network.state_dict(), strict=False)
    image = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(4)).double()
    limit = filters if cap is None else min(cap, filters)
    shortcut = residual == "keep" and stride == 1 and channels == filters
    for before in stem.coordinates[0].values:
        for kept in block.coordinates[0].values:
            with torch.no_grad():
                x = only_x.slice((before,))(image)
                f = only_f.slice((before, kept, 4))(image) if kept else None
                got = network.slice((before, kept, 4))(image)
            passed = x if stride == 1 else torch.nn.functional.avg_pool2d(x, 2)
            outputs = []
            for i in range(max(min(before, limit), kept)):
                if f is not None and i < kept:
                    outputs.append(f[:, i] + x[:, i] if shortcut and i < before else f[:, i])
                else:
                    outputs.append(passed[:, i])
            torch.testing.assert_close(got, torch.stack(outputs, 1))


def test_training_statistics_do_not_see_the_mask() -> None:
    """Batch normalisation sits before the mask: its batch statistics are those of all images."""
    space = open_space("mobilenetv3-32")
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    means = []
    for expansion in (8, 48):
        network = SuperNetwork(space, torch.Generator().manual_seed(1))
        architecture = list(space.full)
        architecture[[c.name for c in space.coordinates].index("block1.expansion")] = expansion
        network.forward_masked(images, repeat(tuple(architecture), 8))
        norm = network.full.layer("block1.depthwise").norm
        assert norm is not None
        assert norm.running_mean is not None
        means.append(norm.running_mean.clone())
    assert torch.equal(means[0], means[1])
    assert float(means[0].abs().min()) > 0


def test_gradients_reach_exactly_what_the_image_has() -> None:
    network = super_network(open_space("mobilenetv3-32"), torch.float32)
    space = network.space
    names = [c.name for c in space.coordinates]
    architecture = list(space.full)
    architecture[names.index("block4.filters")] = 16
    architecture[names.index("block5.filters")] = 0
    images = torch.randn(2, 3, 32, 32)
    outputs = network.forward_masked(images, repeat(tuple(architecture), 2))
    outputs.sum().backward()  # type: ignore[no-untyped-call]
    kept = network.full.layer("block4.project").weight.grad
    gone = network.full.layer("block5.project").weight.grad
    assert kept is not None
    assert gone is not None
    assert bool((kept[:16].flatten(1).abs().sum(1) > 0).all())
    assert not kept[16:].any()
    assert not gone.any()


@pytest.mark.parametrize("seed", range(4))
def test_a_batch_of_one_architecture_is_trained_as_its_slice(seed: int) -> None:
    """Outputs, gradients and batch statistics, in training mode."""
    network = super_network(open_space("mobilenetv3-32"))
    architecture = network.space.random(np.random.default_rng(seed))
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    network.train()
    sliced = network.slice(architecture)
    outputs, expected = network(images, repeat(architecture, 4)), sliced(images)
    torch.testing.assert_close(outputs, expected)
    loss: Tensor = outputs.square().sum() + expected.square().sum()
    loss.backward()  # type: ignore[no-untyped-call]
    for name in network.full.names:
        whole = network.full.layer(name)
        if name not in sliced.names:
            for parameter in whole.parameters():
                assert parameter.grad is not None
                assert not parameter.grad.any()
            continue
        part = sliced.layer(name)
        for parameter, narrow in zip(whole.parameters(), part.parameters(), strict=True):
            assert parameter.grad is not None
            assert narrow.grad is not None
            if parameter.dim() == 4:
                got = cut(parameter.grad, part.layer)
            else:
                got = parameter.grad[tuple(slice(size) for size in narrow.shape)]
            torch.testing.assert_close(got, narrow.grad)
            total = float(parameter.grad.abs().sum())  # and nothing beyond
            assert total == pytest.approx(float(narrow.grad.abs().sum()))
        for buffer, narrow_buffer in zip(whole.buffers(), part.buffers(), strict=True):
            size = narrow_buffer.shape[0] if narrow_buffer.dim() else None
            torch.testing.assert_close(buffer[:size] if size else buffer, narrow_buffer)


def test_a_batch_of_one_architecture_has_the_gradients_of_the_masked_form() -> None:
    network = super_network(open_space("mobilenetv3-32"))
    architecture = network.space.random(np.random.default_rng(7))
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    gradients = []
    for forward in (network, network.forward_masked):
        network.zero_grad()
        forward(images, repeat(architecture, 3)).square().sum().backward()
        gradients.append({name: p.grad for name, p in network.named_parameters()})
    sliced, masked_form = gradients
    assert all(gradient is not None for gradient in sliced.values())
    for name, gradient in masked_form.items():
        torch.testing.assert_close(sliced[name], gradient)


def test_a_slice_is_a_copy() -> None:
    network = super_network(open_space("mobilenetv3-32"))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    sliced = network.slice(network.space.full)
    with torch.no_grad():
        for parameter in sliced.parameters():
            parameter.zero_()
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_a_slice_has_the_layers_of_its_architecture() -> None:
    network = super_network(open_space("mobilenetv3-32"))
    architecture = network.space.random(np.random.default_rng(3))
    assert network.slice(architecture).network == network.space.network(architecture)


def test_slicing_refuses_a_width_that_is_not_in_the_space() -> None:
    network = network_of("mobilenetv3-32")
    with pytest.raises(SpaceError, match=r"stem\.filters = 9 is not allowed"):
        network.slice((9, *network.space.full[1:]))


def test_a_draw_of_the_wrong_shape_is_refused() -> None:
    network = network_of("mobilenetv3-32")
    images = torch.zeros(2, 3, 32, 32, dtype=torch.float64)
    with pytest.raises(SpaceError, match=r"\(3, 32\).*\(2, 32\)"):
        network(images, repeat(network.space.full, 3))


def test_different_kernels_in_one_batch_are_refused() -> None:
    network = network_of("mobilenetv3-32")
    draw = repeat(network.space.full, 2)
    draw[1, [c.name for c in network.space.coordinates].index("block1.kernel")] = 3
    with pytest.raises(SpaceError, match="same kernels"):
        network(torch.zeros(2, 3, 32, 32, dtype=torch.float64), draw)


def test_the_same_generator_gives_the_same_super_network() -> None:
    space = open_space("mobilenetv3-32")
    state = torch.random.get_rng_state()
    one, same, other = (SuperNetwork(space, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    weight = "block1.expand"
    assert not torch.equal(one.full.layer(weight).weight, other.full.layer(weight).weight)
    assert torch.equal(state, torch.random.get_rng_state())  # and nobody else's is touched


@dataclass(frozen=True)
class Pointwise:
    """A stage of a user's own: one 1x1 convolution."""

    name: str
    filters: int

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        return (Coordinate(f"{self.name}.filters", "filters", tuple(range(2, self.filters + 1))),)

    def append(self, builder: NetworkBuilder, x: int, choice: Choice) -> int:
        return builder.conv_2d(x, choice[0], name=f"{self.name}.conv", batch_norm=True)

    def canonical(self, choice: Choice) -> Choice:
        return choice


class Registered(Pointwise):
    """The same with a masked form."""


@masked.register
def _(stage: Registered, layer: FindLayer, x: Tensor, draw: Draw) -> Tensor:
    mask = width_mask(draw[:, 0], stage.filters, x)
    return layer(f"{stage.name}.conv")(x, mask=mask)  # type: ignore[no-any-return]


def space_with(stage: Stage) -> SearchSpace:
    stages = (Stem("stem", 4, granule=2), stage, Head("head", 6, 3, granule=2))
    return SearchSpace("own", (8, 8, 3), 3, stages)


def test_a_stage_of_ones_own_can_be_trained() -> None:
    network = super_network(space_with(Registered("own", 5)))
    rows = np.array([[4, width, 6] for width in (2, 3, 5)])
    check_masked_equals_sliced(network, rows)


def test_a_stage_without_a_masked_form_is_refused() -> None:
    network = SuperNetwork(space_with(Pointwise("own", 5)), torch.Generator())
    assert network(torch.zeros(2, 3, 8, 8), repeat(network.space.full, 2)).shape == (2, 3)
    with pytest.raises(SpaceError, match="Pointwise has no masked form"):
        network(torch.zeros(2, 3, 8, 8), np.array([network.space.full, network.space.smallest]))


@dataclass(frozen=True)
class Nameless(Pointwise):
    """A stage whose weights could not be found again."""

    def append(self, builder: NetworkBuilder, x: int, choice: Choice) -> int:
        return builder.conv_2d(x, choice[0])


def test_layers_without_a_name_are_refused() -> None:
    with pytest.raises(SpaceError, match=r"own: the conv_2d .* has no name"):
        SuperNetwork(space_with(Nameless("own", 5)), torch.Generator())


def test_reestimated_statistics_are_the_average_over_the_batches() -> None:
    network = super_network(open_space("mobilenetv3-32"))
    module = network.slice(network.space.narrowed(0.5))
    generator = torch.Generator().manual_seed(3)
    batches = [torch.randn(4, 3, 32, 32, generator=generator).double() for _ in range(3)]
    module.train()(100 * batches[0])  # statistics of before, and a count of batches
    module.eval()
    weights = [parameter.clone() for parameter in module.parameters()]
    reestimate(module, batches)
    stem = module.layer("stem.conv")
    assert stem.norm is not None
    assert stem.norm.running_mean is not None
    assert stem.norm.running_var is not None
    padded = [torch.nn.functional.pad(batch, (0, 1, 0, 1)) for batch in batches]
    outputs = [torch.nn.functional.conv2d(batch, stem.weight, stride=2) for batch in padded]
    mean = torch.stack([output.mean((0, 2, 3)) for output in outputs]).mean(0)
    variance = torch.stack([output.var((0, 2, 3)) for output in outputs]).mean(0)
    torch.testing.assert_close(stem.norm.running_mean, mean.detach())
    torch.testing.assert_close(stem.norm.running_var, variance.detach())
    assert not module.training
    assert stem.norm.momentum is not None
    assert all(torch.equal(a, b) for a, b in zip(weights, module.parameters(), strict=True))


def test_reestimation_needs_batches_of_two_or_more() -> None:
    network = network_of("mobilenetv3-32")
    module = network.slice(network.space.smallest)
    with pytest.raises(DataError, match="at least one batch"):
        reestimate(module, [])
    with pytest.raises(DataError, match="two images"):
        reestimate(module, [torch.zeros(1, 3, 32, 32, dtype=torch.float64)])
    norm = module.layer("stem.conv").norm
    assert norm is not None
    assert norm.momentum is not None
    assert not module.training


# --- samplers -------------------------------------------------------------------------------------

SPACE = open_space("mobilenetv3-32")
KERNELS = np.array([c.kind == "kernel" for c in SPACE.coordinates])


def samplers(seed: int) -> list[Sampler]:
    rng = np.random.default_rng(seed)
    return [
        OrderedDropout(SPACE, rng),
        OrderedDropout(SPACE, rng, "uniform", full_fraction=0.5),
        OrderedDropout(SPACE, rng, groups=3),
        SinglePath(SPACE, rng),
        OrderedDropout(SPACE, rng, "tied"),
        OrderedDropout(SPACE, rng, "even", groups=2),
        SinglePath(SPACE, rng, "mixed"),
        Sandwich(SPACE, rng, between=1),
    ]


@pytest.mark.parametrize("index", range(8))
def test_every_row_of_every_draw_is_in_the_space(index: int) -> None:
    for _ in range(5):
        for draw in samplers(4)[index].draw(9):
            assert draw.shape == (9, len(SPACE.coordinates))
            assert draw.dtype == np.int64
            assert (draw[:, KERNELS] == draw[0, KERNELS]).all()
            for row in draw:
                SPACE.check(tuple(row.tolist()))


@pytest.mark.parametrize("index", range(8))
def test_a_sampler_is_decided_by_its_generator(index: int) -> None:
    def first(seed: int) -> list[list[list[int]]]:
        return [draw.tolist() for draw in samplers(seed)[index].draw(5)]

    assert first(1) == first(1)
    assert first(1) != first(2)


@pytest.mark.parametrize("law", get_args(Law))
def test_every_law_reaches_every_value(law: Law) -> None:
    rng = np.random.default_rng(0)
    rows = np.concatenate([draw_rows(SPACE, rng, law, 50) for _ in range(60)])
    for column, coordinate in enumerate(SPACE.coordinates):
        assert set(rows[:, column].tolist()) == set(coordinate.values)


def positions(law: Law, rows: int = 4000) -> NDArray[np.float64]:
    """Where drawn widths lie between the smallest (0) and the largest (1) of their coordinate."""
    drawn = draw_rows(SPACE, np.random.default_rng(0), law, rows)[:, ~KERNELS]
    low = np.array([c.values[0] for c in SPACE.coordinates])[~KERNELS]
    found: NDArray[np.float64] = (drawn - low) / (np.array(SPACE.full)[~KERNELS] - low)
    return found


def test_the_uniform_law_is_uniform_and_independent() -> None:
    found = positions("uniform")
    assert found.mean(axis=0) == pytest.approx(0.5, abs=0.03)
    for column, coordinate in enumerate(c for c in SPACE.coordinates if c.kind != "kernel"):
        count = len(np.unique(found[:, column]))
        assert count == len(coordinate.values)
        assert found[:, column].std() == pytest.approx(
            np.sqrt((count + 1) / (count - 1) / 12), rel=0.05
        )
    correlation = np.corrcoef(found.T) - np.eye(found.shape[1])
    assert abs(correlation).max() < 0.08


def test_the_tied_law_has_one_scale_for_all_widths_of_a_row() -> None:
    found = positions("tied")
    finest = np.array([len(c.values) - 1 for c in SPACE.coordinates])[~KERNELS]
    assert (abs(found - found[:, finest.argmax(), None]) <= 0.5 / finest + 0.5 / finest.max()).all()
    scale = found[:, finest.argmax()]
    assert scale.mean() == pytest.approx(0.5, abs=0.02)
    assert scale.std() == pytest.approx(np.sqrt(1 / 12), rel=0.05)


def test_the_mixed_law_reaches_small_and_large_networks() -> None:
    mixed, uniform = positions("mixed").mean(axis=1), positions("uniform").mean(axis=1)
    assert mixed.std() > 2.5 * uniform.std()
    assert mixed.mean() == pytest.approx(0.5, abs=0.02)
    deviation = positions("mixed") - mixed[:, None]
    assert deviation.std() == pytest.approx(0.2, abs=0.04)  # 0.25, cut at both ends


def test_the_even_law_has_operations_evenly() -> None:
    def shares(law: Law) -> NDArray[np.float64]:
        rows = draw_rows(SPACE, np.random.default_rng(0), law, 400)
        operations: NDArray[np.float64] = macs(SPACE)(rows)
        return operations / float(macs(SPACE)([SPACE.full])[0])

    assert shares("even").mean() == pytest.approx(0.5, abs=0.05)
    assert shares("mixed").mean() < 0.4


def test_the_full_fraction_is_kept() -> None:
    def share(fraction: float) -> float:
        sampler = OrderedDropout(SPACE, np.random.default_rng(1), full_fraction=fraction)
        (draw,) = sampler.draw(2000)
        return float((draw[:, ~KERNELS] == np.array(SPACE.full)[~KERNELS]).all(axis=1).mean())

    assert share(0.0) < 0.01
    assert share(0.3) == pytest.approx(0.3, abs=0.05)
    assert share(1.0) == 1.0


def test_groups_share_their_widths() -> None:
    def rows(groups: int | None) -> int:
        sampler = OrderedDropout(SPACE, np.random.default_rng(1), groups=groups)
        (draw,) = sampler.draw(12)
        return len(np.unique(draw, axis=0))

    assert (rows(None), rows(4), rows(1), rows(50)) == (12, 4, 1, 12)


def test_single_path_and_sandwich_run_the_batch_as_one() -> None:
    rng = np.random.default_rng(1)
    (single,) = SinglePath(SPACE, rng).draw(4)
    sandwich = Sandwich(SPACE, rng, between=2).draw(4)
    assert len(sandwich) == 4
    assert all((draw == draw[0]).all() for draw in [single, *sandwich])
    assert tuple(sandwich[0][0].tolist()) == SPACE.full
    assert tuple(sandwich[1][0].tolist()) == SPACE.smallest


def test_settings_out_of_range_are_refused() -> None:
    rng = np.random.default_rng(1)
    with pytest.raises(SpaceError, match=r"full_fraction is 1\.5"):
        OrderedDropout(SPACE, rng, full_fraction=1.5)
    with pytest.raises(SpaceError, match="groups is 0"):
        OrderedDropout(SPACE, rng, groups=0)
    with pytest.raises(SpaceError, match="between is -1"):
        Sandwich(SPACE, rng, between=-1)
    with pytest.raises(SpaceError, match="no law is called 'normal'"):
        SinglePath(SPACE, rng, "normal")  # type: ignore[arg-type]


def test_a_sampler_by_its_rule_has_the_rules_own_law_unless_told() -> None:
    rng = np.random.default_rng(1)
    assert make_sampler(SPACE, "ordered-dropout", rng) == OrderedDropout(SPACE, rng)
    assert make_sampler(SPACE, "single-path", rng) == SinglePath(SPACE, rng)
    assert make_sampler(SPACE, "single-path", rng, law="even") == SinglePath(SPACE, rng, "even")
    assert make_sampler(SPACE, "sandwich", rng, law="tied") == Sandwich(SPACE, rng, "tied")
    dropout = make_sampler(
        SPACE, "ordered-dropout", rng, law="uniform", full_fraction=0.1, groups=4
    )
    assert dropout == OrderedDropout(SPACE, rng, "uniform", 0.1, 4)


def test_settings_of_a_search_that_no_sampler_has_are_refused() -> None:
    with pytest.raises(SpaceError, match="known: mixed, uniform, tied, even"):
        SearchSettings(law="normal")  # type: ignore[arg-type]
    with pytest.raises(SpaceError, match="full_fraction is 2"):
        SearchSettings(full_fraction=2.0)
    with pytest.raises(InputError, match="belong to ordered dropout; sandwich has neither"):
        SearchSettings(training="sandwich", groups=3)
    with pytest.raises(InputError, match="belong to ordered dropout; single-path has neither"):
        SearchSettings(training="single-path", full_fraction=0.5)
