"""A latency lookup table: what each operator costs on one board, and how right that is.

    table = LookupTable.open(Path("pi5.boardfit"))
    table.latency(network)        # Estimate(seconds=..., low=..., high=...)

The file (see `store.py`) holds every sample; the table is derived from it on opening. Operators
between measured ones are interpolated and flagged, others are refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..devices.errors import MissingEntry, TableFileError, TableNotValid
from .board_record import BoardRecord, read_board_record
from .calibration import BAR, NORMAL, Calibration, Validation, predict, variance
from .crowding import Crowding, footprint
from .entry_verdict import entry_verdicts
from .fragments import PricedFragment, PriceList
from .interpolation import Scales
from .layers import DTYPES, Dtype, Layer, Network
from .measurement import Interval
from .model_format import AUTO, ONNX_RUNTIMES, TFLITE_RUNTIMES
from .pricing import Alone, read_scales
from .sessions import prediction_interval
from .store import Store
from .table_result import Outside, read_calibration, read_outside, read_validation
from .table_values import (
    UNKNOWN_DEVIATION,
    Operator,
    operator_times,
    read_fragments,
    representative,
    smallest_of_runs,
    split_entries,
    spread_of,
)
from .transfer import Donor, read_donor

if TYPE_CHECKING:
    import pandas

_MOST_WORDS = 1000  # letters of a file that are shown


@dataclass(frozen=True)
class Estimate:
    """A predicted latency in seconds with the limits of its 95 % interval, which carries those of
    the operators; and how many of the network's operators were interpolated."""

    seconds: float
    low: float
    high: float
    interpolated: int = 0


class LookupTable:
    """The price of every measured operator; immutable. Use `LookupTable.open`.

    `provenance` says what the table was built for, `conditions` on what. `networks` are the whole
    networks that were measured with it: key -> (role, network, value of each run in seconds);
    `runs` is the number of runs, `scales` are those of interpolation (without, they are fitted
    anew), `donor` lends the prices of what was not measured.
    `fragments` are layers in a row that were measured together, by signature. `outside` are the
    kinds of operators that run outside of the delegate, None where that is not known. `campaign`
    says what the user should know of how measuring went, "" where all went well; `record` is what
    the board said of itself meanwhile, None where it told nothing.
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
        scales: Mapping[str, Scales] | None = None,
        donor: Donor | None = None,
        fragments: Mapping[str, PricedFragment] | None = None,
        outside: Outside | None = None,
        campaign: str = "",
        record: BoardRecord | None = None,
    ) -> None:
        self.path = path
        self.runs = runs
        self.operators = operators
        self.networks = networks
        self.times = operator_times(operators, scales, donor)
        self.donor = donor
        self.spread = spread_of(operators)
        self.calibration = calibration
        self.validation = validation
        self.provenance = provenance
        self.conditions = conditions
        self.outside = outside
        self.campaign = campaign
        self.record = record
        self.fragments = fragments or {}
        self._price_list = PriceList(
            self.price, {f.fragment: representative(f.runs) for f in self.fragments.values()}
        )

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
            conditions = store.conditions() or {}
            try:
                # More entries or a further run may have been begun since; they are no part of it.
                written = list(store.entries().items())
                known = int(result["entries"])
                if not 0 <= known <= len(written):
                    raise ValueError(f"{known} entries, of which {len(written)} are there")
                entries = dict(written[:known])
                runs = int(result["runs"])
                visits = store.visits().before(runs)
                values = smallest_of_runs(visits)
                verdicts = entry_verdicts(visits.entry, visits.run, visits.seconds)
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise _damaged(path, error) from error
        try:
            calibration = read_calibration(result["calibration"])
            validation = read_validation(result["validation"])
            operators, networks = split_entries(entries, values, verdicts)
            fragments = read_fragments(entries, values)
            outside = read_outside(result.get("outside"))
            scales = read_scales(result["scales"])
            donor = read_donor(plan.get("donor"))
            provenance = dict(plan["provenance"])
            campaign = str(result.get("campaign", ""))[:_MOST_WORDS]
            record = read_board_record(result.get("board"))
            if provenance.get("dtype", "float32") not in DTYPES:
                raise ValueError(f"the dtype {provenance['dtype']!r}")
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise _damaged(path, error) from error
        return cls(
            path,
            operators,
            networks,
            calibration,
            validation,
            provenance,
            conditions,
            runs,
            scales,
            donor,
            fragments,
            outside,
            campaign,
            record,
        )

    @staticmethod
    def is_finished(path: Path) -> bool:
        """Whether the build of the table at `path` has come to its end. Raises `TableFileError`."""
        with Store.open(path) as store:
            return store.document("result") is not None

    @property
    def entries(self) -> int:
        """How many operators, fragments and networks were measured."""
        return len(self.operators) + len(self.fragments) + len(self.networks)

    def missing(self, layers: Iterable[Layer]) -> list[Layer]:
        """Which layers the table cannot price, each signature once, in the table's dtype."""
        found: dict[str, Layer] = {}
        for layer in map(self._own, layers):
            try:
                self.times.alone(layer)
            except MissingEntry:
                found.setdefault(layer.signature, layer)
        return list(found.values())

    @property
    def threads(self) -> int:
        """The runtime's threads that the table was measured with."""
        return int(self.conditions.get("threads") or 1)

    @property
    def runtime(self) -> str:
        """The runtime that the table was measured with, as it is asked for.

        Where a table (an imported one) names none that we have, it is whichever the board has:
        then its conditions say that it differs.
        """
        runtime = str(self.conditions.get("runtime") or AUTO)
        known = runtime.partition(":")[0] in (*TFLITE_RUNTIMES, *ONNX_RUNTIMES)
        return runtime if known else AUTO

    @property
    def noisy(self) -> list[Operator]:
        """The operators whose value no second run confirms, those whose runs differ most first."""
        found = [o for o in self.operators.values() if o.verdict == "noisy"]
        return sorted(found, key=lambda operator: -operator.spread)

    @property
    def constant(self) -> float:
        """Seconds that a network costs beyond its layers."""
        return self.calibration.constant

    @property
    def dtype(self) -> Dtype:
        """The dtype of all operators; tables that do not say are older and float32."""
        found: Dtype = self.provenance.get("dtype", "float32")
        return found

    def form_of(self, network: Network) -> Network:
        """The network as the table prices it: of an int8 table, the int8 form of a float network,
        without weights. So a space, which is written down in float, is searched unchanged."""
        if network.dtype == self.dtype or network.dtype != "float32":
            return network
        return replace(network, weights=None).as_dtype(self.dtype)

    def _own(self, layer: Layer) -> Layer:
        """The same for one layer. An int8 layer is never priced as float."""
        return layer.as_dtype(self.dtype) if layer.dtype == "float32" else layer

    def alone(self, layer: Layer) -> Alone:
        """What a layer takes on its own, measured or interpolated; of an int8 table, what its int8
        form takes. Raises `MissingEntry`."""
        try:
            return self.times.alone(self._own(layer))
        except MissingEntry as error:
            raise MissingEntry(
                f"{self.path} has {error}. It was built for "
                f"{self.provenance.get('space', 'another space')}: measure what is missing with "
                f"`boardfit table extend {self.path} --space NAME`"
            ) from None

    def price(self, layer: Layer) -> float:
        """Seconds that a layer adds to a network; of an int8 table, its int8 form. Raises
        `MissingEntry`."""
        return self.calibration.price(self._own(layer), self.alone(layer).seconds)

    def price_layers(self, layers: Sequence[Layer]) -> float:
        """Seconds that layers in a row add to a network. Raises `MissingEntry`.

        Where the table has a fragment of them, its time counts as it was measured; where not, the
        sum of the prices.
        """
        return self._price_list(layers)

    @property
    def crowding(self) -> Crowding:
        """What a network loses because its layers crowd each other out of the caches."""
        return self.calibration.crowding

    def footprint(self, layers: Iterable[Layer]) -> tuple[float, float]:
        """Bytes of weights and bytes moved by layers; of an int8 table, by their int8 forms."""
        return footprint(map(self._own, layers))

    @property
    def _stretch(self) -> float:
        return self.validation.stretch if self.validation else NORMAL

    def variance(self, layers: Sequence[Layer]) -> float:
        """Of the prices of layers in a row, in square seconds. Raises `MissingEntry`."""
        fragments, rest = self._price_list.split([self._own(layer) for layer in layers])
        whole = [Alone(seconds, UNKNOWN_DEVIATION) for seconds in fragments]
        return variance(rest, self.alone, self.calibration, whole)

    def margin(
        self, seconds: NDArray[np.float64], variance: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """What a prediction may be exceeded by, relative to it (95 %): from the variance of a
        network's layers, and from how far networks were off that the table had not seen."""
        found: NDArray[np.float64] = self._stretch * np.sqrt(
            variance / seconds**2 + self.calibration.residual**2
        )
        return found

    def latency(self, network: Network) -> Estimate:
        """Predict a network's latency. Raises `MissingEntry`."""
        fragments, rest = self._price_list.split(self.form_of(network).layers)
        whole = [Alone(seconds, UNKNOWN_DEVIATION) for seconds in fragments]
        priced = predict(rest, self.alone, self.calibration, whole)
        margin = self._stretch * priced.deviation
        return Estimate(
            priced.seconds,
            priced.seconds / (1 + margin),
            priced.seconds * (1 + margin),
            priced.interpolated,
        )

    def session_interval(self, signature: str) -> Interval:
        """Where another session's value of a measured operator will fall, in seconds.

        A session's value is the smallest sample that a fresh worker process sees of it; the
        interval comes from the spread between sessions, pooled over operators of like times.
        """
        operator = self.operators[signature]
        return prediction_interval(operator.runs, self.spread(operator.seconds))

    def check(self) -> None:
        """Raise `TableNotValid` where the table fails its bar on held-out networks."""
        if self.validation is None:
            raise TableNotValid(
                f"{self.path} was built without held-out networks, so that nobody knows how right "
                "it is; build it with some, or search with --allow-invalid-table"
            )
        if not self.validation.passes:
            floor = self.validation.noise_floor
            noise = "" if math.isnan(floor) else f", noise floor {floor:.1%}"
            raise TableNotValid(
                f"{self.path} predicts only {self.validation.share_within(0.10):.0%} of its "
                f"held-out networks within 10 % (at least {BAR:.0%} are needed; MAPE "
                f"{self.validation.mape:.1%}{noise}). End "
                "other work on the board and build it again with the same command, which measures "
                "further runs; or search with --allow-invalid-table"
            )

    def frame(self) -> pandas.DataFrame:
        """The operators as a data frame: signature, shapes, seconds alone and in a network."""
        import pandas

        operators = list(self.operators.values())
        layers = [operator.layer for operator in operators]
        maps = [layer.inputs[0] if len(layer.inputs[0]) == 3 else (1, 1) for layer in layers]
        intervals = list(map(self.session_interval, self.operators))
        # By columns, so that they are there without a single operator as well.
        columns: dict[str, Sequence[object]] = {
            "signature": list(self.operators),
            "op": [layer.op for layer in layers],
            "height": [shape[0] for shape in maps],
            "width": [shape[1] for shape in maps],
            "input_channels": [sum(shape[-1] for shape in layer.inputs) for layer in layers],
            "output_channels": [layer.output[-1] for layer in layers],
            "kernel": [layer.kernel for layer in layers],
            "stride": [layer.stride for layer in layers],
            "activation": [layer.activation for layer in layers],
            "macs": [layer.macs for layer in layers],
            "parameters": [layer.parameters for layer in layers],
            "seconds_alone": [operator.seconds for operator in operators],
            "seconds": list(map(self.price, layers)),
            "low": [interval.low for interval in intervals],
            "high": [interval.high for interval in intervals],
            "spread_between_runs": [operator.spread for operator in operators],
            "runs": [len(operator.runs) for operator in operators],
            "verdict": [operator.verdict for operator in operators],
        }
        return pandas.DataFrame(columns)


def _damaged(path: Path, error: Exception) -> TableFileError:
    return TableFileError(
        f"{path} is damaged: its result cannot be read ({error!r}); run the command that builds "
        "it again"
    )
