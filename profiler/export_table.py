"""Write a table, or the samples of any file, for other programs, with units and conditions.

CSV is flat: one row an operator, units in the columns' names. Parquet carries the rest in its
metadata, JSON all that is needed to make the table again (`import_table.py`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from ..devices.errors import BoardfitError, InputError, TableFileError
from ..devices.files import write_atomically
from .evidence import samples_frame
from .fragments import ROLE
from .session_identity import session_identities
from .store import Store
from .table import LookupTable
from .table_values import representative

FORMAT = "boardfit lookup table"
VERSION = 1
UNITS = {
    "seconds": "s, in a network, as the table predicts it",
    "seconds_alone": "s, the smallest sample of all runs of the operator alone",
    "low": "s, below it lies another session's value of the operator alone in 2.5 % of cases",
    "high": "s, above it in as many",
    "seconds_of_runs": "s, the smallest sample of each run",
    "spread_between_runs": "the largest of the runs relative to the smallest, minus one",
    "verdict": "whether a second run confirms the value: steady, noisy, or unknown",
}
METADATA_KEY = b"boardfit"  # in a Parquet file


def export_table(table: LookupTable, out: Path) -> int:
    """Write all operators as CSV, JSON or Parquet, by the ending of `out`; return their number.

    Times are in seconds. Fragments are rows of their own. Raises `InputError` for another ending,
    `StorageError`, and `BoardfitError` where Parquet's library is not installed.
    """
    frame = export_frame(table)
    _write(frame, out, _about(table), lambda: _document(table, frame))
    return len(frame)


def export_samples(path: Path, out: Path) -> int:
    """Write every sample of a table or profile with its conditions, as `export_table` does; return
    their number.

    Raises `TableFileError` where the file is damaged or holds no samples, too.
    """
    with Store.open(path) as store:
        try:
            frame = samples_frame(store)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise TableFileError(
                f"{path} is damaged ({error}); run the command that made it again, or restore a "
                "copy"
            ) from error
    if frame.empty:
        raise TableFileError(f"{path} holds no samples yet; run the command that began it again")
    _write(frame, out, {}, lambda: _records(frame))
    return len(frame)


def _write(
    frame: pd.DataFrame, out: Path, about: dict[str, Any], document: Callable[[], object]
) -> None:
    """By the ending of `out`: `frame` as CSV, as Parquet with `about`, or `document` as JSON."""
    if out.suffix == ".csv":
        data = frame.to_csv(index=False).encode()
    elif out.suffix == ".json":
        # pandas would round to ten decimal places, of a microsecond to four digits.
        data = json.dumps(document(), indent=1).encode()
    elif out.suffix == ".parquet":
        data = _parquet(frame, about)
    else:
        raise InputError(f"{out}: the ending says the format; use .csv, .json or .parquet")
    write_atomically(out, data)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as objects; JSON has no NaN."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]


def export_frame(table: LookupTable) -> pd.DataFrame:
    """The operators as `LookupTable.frame` has them, and below them the fragments."""
    frame = table.frame()
    if not table.fragments:
        return frame
    rows = []
    for signature, priced in table.fragments.items():
        first, last = priced.fragment.layers[0], priced.fragment.layers[-1]
        shape = first.inputs[0]
        rows.append(
            {
                "signature": signature,
                "op": ROLE,
                "height": shape[0] if len(shape) == 3 else 1,
                "width": shape[1] if len(shape) == 3 else 1,
                "input_channels": shape[-1],
                "output_channels": last.output[-1],
                "macs": priced.fragment.macs,
                "parameters": sum(layer.parameters for layer in priced.fragment.layers),
                "seconds_alone": representative(priced.runs),
                "seconds": representative(priced.runs),
                "spread_between_runs": float(priced.runs.max() / priced.runs.min() - 1),
                "runs": len(priced.runs),
                "verdict": "unknown",  # fragments are imported, without their visits
            }
        )
    fragments = pd.DataFrame(rows)
    return fragments if frame.empty else pd.concat([frame, fragments], ignore_index=True)


def _about(table: LookupTable) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "units": UNITS,
        "conditions": dict(table.conditions),
        "provenance": dict(table.provenance),
    }


def _document(table: LookupTable, frame: pd.DataFrame) -> dict[str, Any]:
    """All of the table: `operators` for people, `entries` and the rest to make it again."""
    with Store.open(table.path) as store:
        entries = store.entries()
        values: dict[int, dict[str, float]] = {}
        visits = store.visits()
        for entry, run, seconds in zip(
            visits.entry.tolist(), visits.run.tolist(), visits.seconds.tolist(), strict=True
        ):
            if run < table.runs:  # a further run may have been begun; it is no part of the result
                runs = values.setdefault(entry, {})
                runs[str(run)] = min(seconds, runs.get(str(run), seconds))
        sessions = [
            {"run": run, "started": started, "at": at}
            for run, (started, at) in session_identities(store).values()
            if run < table.runs
        ]
        plan, result = store.document("plan"), store.document("result")
    return {
        **_about(table),
        "operators": _records(frame),
        "plan": plan,
        "result": result,
        "sessions": sessions,
        "entries": [
            {
                "key": entry.key,
                "role": entry.role,
                "content": dict(entry.content),
                "seconds_of_runs": values.get(number, {}),
            }
            for number, entry in entries.items()
        ],
    }


def _parquet(frame: pd.DataFrame, about: dict[str, Any]) -> bytes:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise BoardfitError(
            "writing Parquet needs pyarrow: pip install 'boardfit[parquet]', or export to .csv"
        ) from error
    table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    metadata = {**(table.schema.metadata or {}), METADATA_KEY: json.dumps(about).encode()}
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), buffer)
    return buffer.getvalue()
