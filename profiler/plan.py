"""What a lookup table is to price, and how many of its operators are measured for that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..devices.errors import InputError
from .description import describe_layer, describe_network, network_key
from .fragments import ROLE, Fragment, describe_fragment
from .layers import Dtype, Layer, Network
from .selection import Usage, ends
from .store import Entry
from .table import LookupTable
from .transfer import MEASUREMENTS, Donor, choose_measurements

OPERATORS = 700  # measured unless it is said otherwise; more hardly make a table righter
FEWEST_OPERATORS = 20  # that are measured where a donor lends the others
BATCHES = 4  # in which operators are added; after each it is known better what is uncertain


@dataclass(frozen=True)
class TablePlan:
    """What a table needs: every layer to be priced, networks to calibrate with and others to
    judge by, and what it is for (`provenance`: JSON values).

    At most `operators` of the layers are measured, the others interpolated (None: all are
    measured); `usage` says how often each occurs, which decides. Where a `donor` lends prices,
    exactly `chosen` are measured. `blocks` are measured instead of operators, each as a whole, for
    runtimes that fuse. Raises ValueError where a network has a layer that is not to be priced, or
    dtypes are mixed.
    """

    layers: tuple[Layer, ...]
    calibration: tuple[Network, ...]
    validation: tuple[Network, ...]
    provenance: Mapping[str, Any]
    operators: int | None = None
    usage: Usage = field(default_factory=Usage, compare=False)
    donor: Donor | None = field(default=None, compare=False)
    chosen: tuple[Layer, ...] | None = None
    blocks: tuple[Network, ...] = ()

    def __post_init__(self) -> None:
        priced = {layer.signature for layer in self.layers}
        if len({layer.dtype for layer in self.layers}) != 1:
            raise ValueError("the layers of a table have one dtype")
        for network in (*self.calibration, *self.validation):
            for layer in network.layers:
                if layer.signature not in priced:
                    raise ValueError(f"a network needs {layer.signature!r}, which is not planned")

    @property
    def dtype(self) -> Dtype:
        """The dtype of all layers and networks."""
        return self.layers[0].dtype

    @cached_property
    def first(self) -> tuple[Layer, ...]:
        """The operators that are measured in any case: all, or the ends of every family.

        These can be more than `operators`: what is not enclosed could not be priced.
        """
        if self.blocks:
            return ()
        if self.chosen is not None:
            return self.chosen
        layers = {layer.signature: layer for layer in self.layers}
        if self.operators is None or len(layers) <= self.operators:
            return tuple(layers.values())
        return tuple(ends(layers.values()))

    @property
    def sizes(self) -> list[int]:
        """How many operators are measured after each batch."""
        if self.blocks or self.chosen is not None:
            return [len(self.first)]
        signatures = {layer.signature for layer in self.layers}
        least = len(self.first)
        most = max(least, min(len(signatures), self.operators or len(signatures)))
        if least == most:
            return [most]
        return [least + (most - least) * i // BATCHES for i in range(BATCHES + 1)]

    def entries(self) -> list[Entry]:
        """One entry for each operator of `first`, block and network, in a fixed order."""
        networks: dict[str, Entry] = {}
        for role, group in (("calibration", self.calibration), ("validation", self.validation)):
            for network in group:
                key = network_key(network)
                networks.setdefault(key, Entry(key, role, describe_network(network)))
        operators = [operator_entry(layer) for layer in self.first]
        return [*operators, *map(block_entry, self.blocks), *networks.values()]


def plan_transfer(donor: LookupTable, *, measurements: int = MEASUREMENTS) -> TablePlan:
    """What to measure on a sister board of the donor's: operators and the calibration networks,
    `measurements` together; the donor's held-out networks judge the result in addition.

    Raises `InputError` where so few are not enough to tell how the boards differ, and where the
    donor has blocks instead of operators.
    """
    if donor.fragments or not donor.operators:
        raise InputError(
            f"{donor.path} was imported block by block; a donor is a table of measured operators"
        )
    networks = {"calibration": [], "validation": []}  # type: dict[str, list[Network]]
    for role, network, _ in donor.networks.values():
        networks[role].append(network)
    least = len(networks["calibration"]) + FEWEST_OPERATORS
    if measurements < least:
        raise InputError(
            f"{measurements} measurements are too few: the {len(networks['calibration'])} "
            f"calibration networks and {FEWEST_OPERATORS} operators need {least}"
        )
    everything = [*networks["calibration"], *networks["validation"]]
    lent = Donor(
        {signature: (o.layer, donor.alone(o.layer)) for signature, o in donor.operators.items()}
    )
    count = measurements - len(networks["calibration"])
    chosen = choose_measurements(lent, Usage.of(everything), count)
    layers = {layer.signature: layer for network in everything for layer in network.layers}
    layers |= {signature: layer for signature, (layer, _) in lent.operators.items()}
    return TablePlan(
        tuple(layers.values()),
        tuple(networks["calibration"]),
        tuple(networks["validation"]),
        {**donor.provenance, "donor": {"table": donor.path.name, **donor.conditions}},
        donor=lent,
        chosen=tuple(chosen),
    )


def block_entry(block: Network) -> Entry:
    """The entry of layers that are measured together; it knows their wiring besides."""
    fragment = Fragment(tuple(block.layers))
    content = {**describe_fragment(fragment), "network": describe_network(block)}
    return Entry(fragment.signature, ROLE, content)


def operator_entry(layer: Layer) -> Entry:
    """The entry of one operator."""
    return Entry(layer.signature, "operator", describe_layer(layer))
