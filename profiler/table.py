"""A latency lookup table: what each operator costs on one board, and how right that is.

    table = LookupTable.open(Path("pi5.boardfit"))
    table.latency(network)        # Estimate(seconds=..., low=..., high=...)

The file (see `store.py`) holds every sample; the table is derived from it on opening.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..devices.errors import MissingEntry, TableFileError, TableNotValid
from .calibration import BAR, Calibration, Validation
from .description import read_layer, read_network
from .layers import Layer, Network
from .store import Entry, Store

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Estimate:
    """A predicted latency in seconds; 95 % of the held-out networks lay within such limits."""

    seconds: float
    low: float
    high: float


@dataclass(frozen=True)
class Operator:
    """An entry of the table: the layer, and its smallest sample of each run in seconds."""

    layer: Layer
    runs: NDArray[np.float64]

    @property
    def seconds(self) -> float:
        """The operator's time alone."""
        return representative(self.runs)


def representative(runs: NDArray[np.float64]) -> float:
    """The table's statistic: the smallest sample of all runs.

    Whatever disturbs a board makes it slower, never faster, and its slow states last for seconds:
    the smallest of visits that are spread over time and over processes repeats better than their
    median (`make bench-table` prints both).
    """
    return float(runs.min())


class LookupTable:
    """The price of every measured operator; immutable. Use `LookupTable.open`.

    `provenance` says what the table was built for, `conditions` on what. `networks` are the whole
    networks that were measured with it: key -> (role, network, value of each run in seconds);
    `runs` is the number of runs.
    """

    def __init__(
        self,
        path: Path,
        operators: Mapping[str, Operator],
        networks: Mapping[str, tuple[str, Network, NDArray[np.float64]]],
        calibration: Calibration,
        validation: Validation | None,
        provenance: Mapping[str, Any],
        conditions: Mapping[str, Any],
        runs: int,
    ) -> None:
        self.path = path
        self.runs = runs
        self.operators = operators
        self.networks = networks
        self.calibration = calibration
        self.validation = validation
        self.provenance = provenance
        self.conditions = conditions

    @classmethod
    def open(cls, path: Path | str) -> LookupTable:
        """Read a finished table.

        Raises `TableFileError` where the file is missing, foreign, damaged, or the build has not
        been finished.
        """
        path = Path(path)
        with Store.open(path) as store:
            plan = store.document("plan")
            result = store.document("result")
            if plan is None or plan.get("kind") != "table":
                raise TableFileError(f"{path} holds measurements, but no lookup table")
            if result is None:
                raise TableFileError(
                    f"the table {path} is not finished; run the command that builds it again, "
                    "it goes on where it stopped"
                )
            entries = store.entries()
            conditions = store.conditions() or {}
            try:
                # A further run may have been begun since; its values are not part of the result.
                runs = int(result["runs"])
                values = run_values(store, runs=runs)
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise _damaged(path, error) from error
        try:
            calibration = read_calibration(result["calibration"])
            validation = read_validation(result["validation"])
            operators, networks = split_entries(entries, values)
            provenance = dict(plan["provenance"])
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise _damaged(path, error) from error
        return cls(path, operators, networks, calibration, validation, provenance, conditions, runs)

    @staticmethod
    def is_finished(path: Path) -> bool:
        """Whether the build of the table at `path` has come to its end. Raises `TableFileError`."""
        with Store.open(path) as store:
            return store.document("result") is not None

    @property
    def constant(self) -> float:
        """Seconds that a network costs beyond its layers."""
        return self.calibration.constant

    def price(self, layer: Layer) -> float:
        """Seconds that a layer adds to a network. Raises `MissingEntry`."""
        operator = self.operators.get(layer.signature)
        if operator is None:
            raise MissingEntry(
                f"the table {self.path} has no price for {layer.signature!r}; it was built for "
                f"{self.provenance.get('space', 'another space')}: build one for this network's "
                "space with `boardfit profile --space NAME`"
            )
        return self.calibration.price(layer, operator.seconds)

    def latency(self, network: Network) -> Estimate:
        """Predict a network's latency. Raises `MissingEntry`."""
        return self.estimate(self.constant + sum(self.price(layer) for layer in network.layers))

    def estimate(self, seconds: float) -> Estimate:
        """A predicted time with the limits that follow from the validation."""
        margin = self.validation.margin if self.validation else 0.0
        return Estimate(seconds, seconds / (1 + margin), seconds * (1 + margin))

    def check(self) -> None:
        """Raise `TableNotValid` where the table fails its bar on held-out networks."""
        if self.validation is None:
            raise TableNotValid(
                f"{self.path} was built without held-out networks; build it with some, or say "
                "--allow-invalid-table"
            )
        if not self.validation.passes:
            raise TableNotValid(
                f"{self.path} predicts only {self.validation.share_within(0.10):.0%} of its "
                f"held-out networks within 10 % (at least {BAR:.0%} are needed; MAPE "
                f"{self.validation.mape:.1%}, noise floor {self.validation.noise_floor:.1%}). End "
                "other work on the board and run the command that builds it again, which measures "
                "further runs; or say --allow-invalid-table"
            )

    def frame(self) -> pandas.DataFrame:
        """The operators as a data frame: signature, shapes, seconds alone and in a network."""
        import pandas

        rows = []
        for signature, operator in self.operators.items():
            layer = operator.layer
            rows.append(
                {
                    "signature": signature,
                    "op": layer.op,
                    "height": layer.inputs[0][0] if len(layer.inputs[0]) == 3 else 1,
                    "width": layer.inputs[0][1] if len(layer.inputs[0]) == 3 else 1,
                    "input_channels": sum(shape[-1] for shape in layer.inputs),
                    "output_channels": layer.output[-1],
                    "kernel": layer.kernel,
                    "stride": layer.stride,
                    "activation": layer.activation,
                    "macs": layer.macs,
                    "parameters": layer.parameters,
                    "seconds_alone": operator.seconds,
                    "seconds": self.price(layer),
                    "spread_between_runs": float(operator.runs.max() / operator.runs.min() - 1),
                    "runs": len(operator.runs),
                }
            )
        return pandas.DataFrame(rows)


def _damaged(path: Path, error: Exception) -> TableFileError:
    return TableFileError(
        f"{path} is damaged: its result cannot be read ({error!r}); run the command that builds "
        "it again"
    )


def run_values(store: Store, *, runs: int) -> dict[int, NDArray[np.float64]]:
    """The smallest sample of each of the first `runs` runs, by entry."""
    visits = store.visits()
    values: dict[int, NDArray[np.float64]] = {}
    counted = visits.run < runs
    if not counted.any():
        return values
    entry, run = visits.entry[counted], visits.run[counted]
    # Visits come in the order of entry and run: each group is one slice.
    starts = np.flatnonzero(np.r_[True, (np.diff(entry) != 0) | (np.diff(run) != 0)])
    minima = np.minimum.reduceat(visits.seconds[counted], starts)
    entries = entry[starts]
    for entry in np.unique(entries).tolist():
        values[entry] = minima[entries == entry]
    return values


def split_entries(
    entries: Mapping[int, Entry], values: Mapping[int, NDArray[np.float64]]
) -> tuple[dict[str, Operator], dict[str, tuple[str, Network, NDArray[np.float64]]]]:
    """Operators by signature and networks by key, each with the values of its runs.

    Raises KeyError for an entry without values, `TableFileError` for one that cannot be read.
    """
    operators: dict[str, Operator] = {}
    networks: dict[str, tuple[str, Network, NDArray[np.float64]]] = {}
    for number, entry in entries.items():
        if entry.role == "operator":
            layer = read_layer(entry.content)
            operators[layer.signature] = Operator(layer, values[number])
        else:
            network = read_network(entry.content)
            networks[entry.key] = (entry.role, network, values[number])
    return operators, networks


def describe_result(
    calibration: Calibration, validation: Validation | None, *, runs: int
) -> dict[str, Any]:
    """The outcome of a build from the first `runs` runs as a JSON object."""
    return {
        "runs": runs,
        "calibration": asdict(calibration),
        "validation": validation
        and {
            "predicted": validation.predicted.tolist(),
            "measured": validation.measured.tolist(),
            "runs": validation.runs.tolist(),
        },
    }


def read_calibration(content: Mapping[str, Any]) -> Calibration:
    """The inverse of `describe_result` for the calibration."""
    factors = {str(name): float(factor) for name, factor in content["factors"].items()}
    return Calibration(
        float(content["constant"]),
        float(content["per_operator"]),
        float(content["per_cold_byte"]),
        factors,
    )


def read_validation(content: Mapping[str, Any] | None) -> Validation | None:
    """The inverse of `describe_result` for the validation."""
    if content is None:
        return None
    return Validation(*(np.array(content[name], float) for name in Validation.__annotations__))
