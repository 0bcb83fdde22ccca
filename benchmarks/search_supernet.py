"""Ordered dropout with each law, single path and the sandwich rule, by the networks they give.

Prints what `results/supernet.jsonl` holds, after computing what it lacks (a core-hour for all
of it; each cell is kept as soon as it is done); with `--stored` nothing is computed.
`supernet_cells.py` says what is trained.
"""

import sys
from collections.abc import Callable, Sequence

import numpy as np
from bars import bar
from cells import Cells, Value
from scipy.stats import kendalltau, spearmanr
from supernet_cells import (
    ALONE,
    BAND_SIZE,
    BANDS,
    BASELINES,
    PASSES,
    RULES,
    SEEDS,
    SEEDS_ALONE,
    alone_key,
    compute,
    costs_key,
    keys,
    networks_key,
    passes_in_time,
    supernet_key,
    tuned_rate,
)

LEAD = 0.05  # of ordered dropout over the sandwich rule, in mean accuracy of sub-networks
Correlate = Callable[[Sequence[float], Sequence[float]], float]


def main() -> int:
    """Compute what is missing, print the tables, and judge the lead."""
    store = Cells("supernet")
    if "--stored" not in sys.argv:
        for key in keys(store.find):
            store.compute(key, lambda key=key: compute(key, store.find))
    alone = [
        [store.find(alone_key(number, seed)) for number in range(len(BANDS) * BAND_SIZE)]
        for seed in SEEDS_ALONE
    ]
    losses = [[cell["loss"] for cell in seed if cell] for seed in alone]
    describe(store, [[cell["accuracy"] for cell in seed if cell] for seed in alone], losses)
    means = {rule: line(store, rule, rule, PASSES, losses) for rule in RULES}
    for rule in BASELINES:
        if (passes := passes_in_time(rule, store.find)) is not None:
            line(store, f"{rule}, equal time", rule, passes, losses)
    dropout, sandwich = means["even"], means["sandwich"]
    if dropout is None or sandwich is None:
        print("MISSED: the comparison was not computed yet")
        return 1
    name = "lead of ordered dropout over the sandwich rule, points of mean accuracy"
    return int(not bar(name, 100 * (dropout - sandwich), 100 * LEAD, least=True, form=".1f"))


def describe(store: Cells, accuracies: list[list[float]], losses: list[list[float]]) -> None:
    """Print the networks, what they reach alone, and what no ranking can exceed."""
    networks, costs = store.find(networks_key()), store.find(costs_key())
    if networks is not None:
        shares = np.reshape(networks["seconds"], (len(BANDS), -1)) / networks["full_seconds"]
        print(
            f"{shares.size} networks in {len(BANDS)} bands of equal latency: "
            + ", ".join(f"{min(band):.1%} to {max(band):.1%}" for band in shares)
            + f" of the full network's; table: MAPE {networks['mape']:.2%}"
        )
    if costs is not None:
        for turn, meaning in (("first", "new shapes"), ("again", "shapes seen before")):
            print(
                f"CPU time of a step, {meaning}: "
                + ", ".join(f"{rule} {1e3 * s:.1f} ms" for rule, s in costs[turn].items())
            )
    complete = len(BANDS) * BAND_SIZE
    for seed, accuracy in zip(SEEDS_ALONE, accuracies, strict=True):
        if len(accuracy) == complete:
            print(
                f"trained alone, {ALONE} steps, seed {seed}: mean accuracy "
                + " / ".join(f"{np.mean(band):.3f}" for band in np.reshape(accuracy, (3, -1)))
            )
    if all(len(loss) == complete for loss in losses):
        print(f"ceiling, one seed's ranking by the other's: {agreement(losses[0], losses[1:])}")
    print(
        f"{'rule':28s} {'passes':>6s} {'rate':>5s} {'seeds':>5s} {'slices':>14s} {'full':>14s}   "
        "ranking within bands: holdout statistics | re-estimated"
    )


def agreement(losses: Sequence[float], others: Sequence[Sequence[float]]) -> str:
    """Spearman's and Kendall's coefficient within bands, means over bands and the others."""
    spearman = within(losses, others, lambda a, b: float(spearmanr(a, b).statistic))
    kendall = within(losses, others, lambda a, b: float(kendalltau(a, b).statistic))
    return f"Spearman {spearman:+.2f}, Kendall {kendall:+.2f}"


def within(
    losses: Sequence[float], others: Sequence[Sequence[float]], correlate: Correlate
) -> float:
    """A coefficient of two rankings inside of each band, mean over bands and over the others."""
    shape = (len(BANDS), BAND_SIZE)
    return float(
        np.mean(
            [
                correlate(a, b)
                for other in others
                for a, b in zip(np.reshape(losses, shape), np.reshape(other, shape), strict=True)
            ]
        )
    )


def line(
    store: Cells, name: str, rule: str, passes: int, alone: Sequence[Sequence[float]]
) -> float | None:
    """Print one rule: mean and standard deviation over seeds; return the slices' mean accuracy,
    `None` where not all seeds are there."""
    rate = tuned_rate(rule, store.find)
    if rate is None:
        return None
    found = [store.find(supernet_key(rule, seed, passes, rate)) for seed in SEEDS]
    cells: list[Value] = [cell for cell in found if cell is not None]
    if not cells:
        return None
    slices = [float(np.mean(cell["accuracy"])) for cell in cells]
    text = (
        f"{name:28s} {passes:6d} {rate:5.2f} {len(cells):5d} {spread(slices):>14s} "
        f"{spread([cell['full'] for cell in cells]):>14s}   "
    )
    if all(len(losses) == len(BANDS) * BAND_SIZE for losses in alone):
        for field in ("loss", "reestimated_loss"):
            spearman, kendall = (
                [within(cell[field], alone, correlate) for cell in cells]
                for correlate in (
                    lambda a, b: float(spearmanr(a, b).statistic),
                    lambda a, b: float(kendalltau(a, b).statistic),
                )
            )
            text += f"Spearman {spread(spearman, '+.2f')}, Kendall {spread(kendall, '+.2f')} | "
    print(text.removesuffix(" | "))
    return float(np.mean(slices)) if len(cells) == len(SEEDS) else None


def spread(values: Sequence[float], form: str = ".3f") -> str:
    """Mean and standard deviation."""
    deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{np.mean(values):{form}} ({deviation:{form.lstrip('+')}})"


if __name__ == "__main__":
    sys.exit(main())
