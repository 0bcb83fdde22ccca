"""What the comparison of super-network trainings trains: one cell of `results/supernet.jsonl` each.

The task: scikit-learn's handwritten digits at 16 pixels, 7 inverted-residual blocks, 16 searched
widths and 7 kernels. 24 networks, 8 in each of 3 bands of equal latency by a table of this machine,
are trained alone with two seeds, and scored as slices of every super-network on the same 500
images, which no training sees. A pass is one forward-backward pass of one batch; a step of the
sandwich rule has four.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from cells import Key, Value
from table_line import validation_of

from boardfit.profiler.build import build_table
from boardfit.profiler.connect import connect
from boardfit.search.data import Dataset, open_dataset
from boardfit.search.examples import Images, normalise
from boardfit.search.metrics import latency
from boardfit.search.mobilenetv3 import Plan, Row, mobilenetv3
from boardfit.search.network_module import NetworkModule
from boardfit.search.recipe import Recipe
from boardfit.search.scoring import evaluate, evaluate_on_batch_statistics
from boardfit.search.space import Architecture, SearchSpace
from boardfit.search.stages import Residual
from boardfit.search.supernet import SuperNetwork, reestimate
from boardfit.search.tabulate import plan_table
from boardfit.search.training import train_network, train_supernet
from boardfit.search.widths import OrderedDropout, Sampler, Sandwich, SinglePath

DATA = "digits"
PLAN = Plan(
    stem=16,
    rows=(
        Row(5, 40, 16, False, "relu", 1),
        Row(5, 48, 16, False, "relu", 1),
        Row(5, 56, 32, True, "relu", 2),
        Row(5, 72, 32, True, "relu", 1),
        Row(5, 96, 32, False, "relu", 1),
        Row(5, 120, 48, True, "hard_swish", 2),
        Row(5, 144, 48, True, "hard_swish", 1),
    ),
    head=128,
    hidden=None,
)
BATCH = 64
PASSES = 600  # of every super-network, where passes are what is equal
ALONE = 200  # steps of a network trained alone
RATE_ALONE = 0.03
SEEDS = (0, 1, 2)
SEEDS_ALONE = (0, 1)
TUNING_SEED = 9  # learning rates are chosen on a seed that the comparison does not see
RATES = (0.01, 0.03, 0.06)
BANDS, BAND_SIZE, BAND_WIDTH = (0.25, 0.4, 0.6), 8, 0.02  # of the full latency, +- 2 % of it
STATISTICS = 2  # training batches of 250 images that re-estimate batch normalisation


class Rule(NamedTuple):
    """A way to train a super-network; `passes` are those of one step."""

    sampler: Callable[[SearchSpace, np.random.Generator], Sampler]
    passes: int = 1
    full_first: float = 0.0
    residual: Residual = "keep"
    rate_of: str = "even"  # the rule whose learning rate it takes


RULES = {
    "even": Rule(partial(OrderedDropout, law="even")),
    "single path": Rule(SinglePath, rate_of="single path"),
    "sandwich": Rule(Sandwich, passes=4, rate_of="sandwich"),
    "mixed": Rule(partial(OrderedDropout, law="mixed")),
    "uniform": Rule(partial(OrderedDropout, law="uniform")),
    "tied": Rule(partial(OrderedDropout, law="tied")),
    "single path, even": Rule(partial(SinglePath, law="even"), rate_of="single path"),
    "sandwich, even": Rule(partial(Sandwich, law="even"), passes=4, rate_of="sandwich"),
    "even, full first": Rule(partial(OrderedDropout, law="even"), full_first=0.25),
    "even, residual drop": Rule(partial(OrderedDropout, law="even"), residual="drop"),
    "even, a tenth full": Rule(partial(OrderedDropout, law="even", full_fraction=0.1)),
    "even, 8 groups": Rule(partial(OrderedDropout, law="even", groups=8)),
}
TUNED = ("even", "single path", "sandwich")
BASELINES = ("single path", "sandwich")


@cache
def space(residual: Residual = "keep") -> SearchSpace:
    """The space of the comparison."""
    return mobilenetv3(
        "comparison",
        PLAN,
        classes=10,
        input_size=16,
        width_factor=1.0,
        kernels=(3, 5),
        granule=4,
        residual=residual,
    )


@cache
def dataset() -> Dataset:
    """The images of the comparison; those that judge are `judges`."""
    return open_dataset(DATA, input_shape=space().input_shape, classes=10, seed=0)


@cache
def judges() -> Images:
    """500 images that no training sees."""
    parts = (dataset().holdout, dataset().test)
    return Images(
        torch.cat([part.images for part in parts])[:500],
        torch.cat([part.targets for part in parts])[:500],
    )


def networks_key() -> Key:
    """The cell of the networks that are compared."""
    return {"cell": "networks", "bands": list(BANDS), "each": BAND_SIZE}


def costs_key() -> Key:
    """The cell of what a step costs under each rule."""
    return {"cell": "costs", "batch": BATCH}


def alone_key(number: int, seed: int) -> Key:
    """The cell of a network that is trained alone."""
    return {"cell": "alone", "network": number, "seed": seed, "steps": ALONE}


def supernet_key(rule: str, seed: int, passes: int, rate: float) -> Key:
    """The cell of a super-network."""
    return {"cell": "supernet", "rule": rule, "seed": seed, "passes": passes, "rate": rate}


def keys(find: Callable[[Key], Value | None]) -> Iterator[Key]:
    """Every cell, those first that others need; it has to be computed before the next is asked
    for, or be left to another process, and then what depends on it is left out."""
    yield networks_key()
    yield costs_key()
    for rule, rate in product(TUNED, RATES):
        yield supernet_key(rule, TUNING_SEED, PASSES, rate)
    rules = list(RULES)

    def supernets(names: Iterable[str], passes: Callable[[str], int | None]) -> Iterator[Key]:
        for seed, rule in product(SEEDS, names):
            rate, count = tuned_rate(rule, find), passes(rule)
            if rate is not None and count is not None:
                yield supernet_key(rule, seed, count, rate)

    yield from supernets(rules[:9], lambda rule: PASSES)
    for seed, number in product(SEEDS_ALONE, range(len(BANDS) * BAND_SIZE)):
        yield alone_key(number, seed)
    yield from supernets(BASELINES, lambda rule: passes_in_time(rule, find))
    yield from supernets(rules[9:], lambda rule: PASSES)


def tuned_rate(rule: str, find: Callable[[Key], Value | None]) -> float | None:
    """The learning rate of a rule: the one with the better slices, on the seed for tuning."""
    accuracies = {}
    for rate in RATES:
        value = find(supernet_key(RULES[rule].rate_of, TUNING_SEED, PASSES, rate))
        if value is None:
            return None
        accuracies[rate] = float(np.mean(value["accuracy"]))
    return max(accuracies, key=lambda rate: accuracies[rate])


def passes_in_time(rule: str, find: Callable[[Key], Value | None]) -> int | None:
    """The passes of a rule that take as long as `PASSES` of ordered dropout, kernels compiled."""
    value = find(costs_key())
    if value is None:
        return None
    steps = PASSES * value["again"]["even"] / value["again"][rule]
    return round(steps) * RULES[rule].passes


def compute(key: Key, find: Callable[[Key], Value | None]) -> Value:
    """Train or measure what a key says."""
    torch.set_num_threads(1)
    match key["cell"]:
        case "networks":
            return networks()
        case "costs":
            return costs()
        case "alone":
            value = find(networks_key())
            assert value is not None
            return alone(tuple(value["architectures"][key["network"]]), key["seed"])
        case _:
            value = find(networks_key())
            assert value is not None
            architectures = [tuple(row) for row in value["architectures"]]
            return supernet(key["rule"], key["seed"], key["passes"], key["rate"], architectures)


def networks() -> Value:
    """Networks of equal latency, drawn at random; the table is built for them and thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        plan = plan_table(space())
        table = build_table(Path(folder) / "table.boardfit", connect("local"), plan)
        metric = latency(space(), table)
        full = float(metric([space().full])[0])
        rng = np.random.default_rng(0)
        bands: list[list[tuple[float, Architecture]]] = [[] for _ in BANDS]
        while min(len(band) for band in bands) < BAND_SIZE:
            drawn = [space().random(rng) for _ in range(500)]
            for share, architecture in zip(metric(drawn) / full, drawn, strict=True):
                for centre, band in zip(BANDS, bands, strict=True):
                    if abs(share - centre) <= BAND_WIDTH * centre and len(band) < BAND_SIZE:
                        band.append((float(share) * full, architecture))
        chosen = [pair for band in bands for pair in band]
        return {
            "architectures": [list(architecture) for _, architecture in chosen],
            "seconds": [seconds for seconds, _ in chosen],
            "full_seconds": full,
            "mape": validation_of(table).mape,
        }


def costs(rounds: int = 30) -> Value:
    """Mean CPU seconds of an optimiser's step under each rule, the rules in turn (one thread, so
    that other work on the machine is not counted).

    Each step is run twice: at `first` PyTorch compiles kernels for shapes that it has not seen,
    which slices of random widths mostly are in a run as short as this; `again` is what they cost in
    a run that is long enough to have seen all.
    """
    images = torch.randn(BATCH, 3, *space().input_shape[:2], generator=torch.Generator())
    labels = torch.arange(BATCH) % 10
    networks = {}
    for name in TUNED:
        network = SuperNetwork(space(), torch.Generator().manual_seed(0)).train()
        sampler = RULES[name].sampler(space(), np.random.default_rng(0))
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
        networks[name] = network, sampler, optimizer
    seconds: dict[str, dict[str, float]] = {"first": {}, "again": {}}
    for number, (name, (network, sampler, optimizer)) in product(range(rounds), networks.items()):
        draws = sampler.draw(BATCH)
        for taken in seconds.values():
            begin = time.process_time()
            optimizer.zero_grad()
            for draw in draws:
                loss = F.cross_entropy(network(images, draw), labels)
                loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if number >= 3:
                taken[name] = taken.get(name, 0.0) + (time.process_time() - begin) / (rounds - 3)
    return seconds


def alone(architecture: Architecture, seed: int) -> Value:
    """Train one network from scratch and judge it."""
    module = NetworkModule(space().network(architecture), torch.Generator().manual_seed(seed))
    recipe = Recipe(steps=ALONE, batch_size=BATCH, learning_rate=RATE_ALONE)
    train_network(module, dataset(), recipe, seed=seed)
    score = evaluate(module, judges(), dataset().task)
    return {"accuracy": score.accuracy, "loss": score.loss}


def supernet(
    rule: str, seed: int, passes: int, rate: float, architectures: list[Architecture]
) -> Value:
    """Train a super-network; score its full network and the slices that are compared, with the
    statistics of the judging images and with re-estimated ones."""
    chosen = RULES[rule]
    network = SuperNetwork(space(chosen.residual), torch.Generator().manual_seed(seed))
    recipe = Recipe(
        steps=passes // chosen.passes,
        batch_size=BATCH,
        learning_rate=rate,
        full_first=chosen.full_first,
    )
    rng = np.random.default_rng(seed)
    begin = time.monotonic()
    train_supernet(network, chosen.sampler(network.space, rng), dataset(), recipe, rng, seed=seed)
    seconds = time.monotonic() - begin
    images = judges()
    batches = [
        normalise(group) for group in torch.split(dataset().train.images[: 250 * STATISTICS], 250)
    ]
    value: Value = {"train_seconds": seconds, "full": None, "accuracy": [], "loss": [],
                    "reestimated_accuracy": [], "reestimated_loss": []}  # fmt: skip
    full = network.slice(network.space.full)
    value["full"] = evaluate_on_batch_statistics(full, images, dataset().task).accuracy
    for architecture in architectures:
        module = network.slice(architecture)
        score = evaluate_on_batch_statistics(module, images, dataset().task)
        value["accuracy"].append(score.accuracy)
        value["loss"].append(score.loss)
        module = network.slice(architecture)
        reestimate(module, batches)
        score = evaluate(module, images, dataset().task)
        value["reestimated_accuracy"].append(score.accuracy)
        value["reestimated_loss"].append(score.loss)
    return value
