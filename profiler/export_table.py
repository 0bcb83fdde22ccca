"""Write a table's operators for other programs."""

from __future__ import annotations

import io
import json
from pathlib import Path

from ..devices.errors import BoardfitError, InputError
from ..devices.files import write_atomically
from .table import LookupTable


def export_table(table: LookupTable, out: Path) -> int:
    """Write all operators as CSV, JSON or Parquet, by the ending of `out`; return their number.

    Times are in seconds. Raises `InputError` for another ending, `StorageError`, and
    `BoardfitError` where Parquet's library is not installed.
    """
    frame = table.frame()
    if out.suffix == ".csv":
        data = frame.to_csv(index=False).encode()
    elif out.suffix == ".json":
        # pandas would round to ten decimal places, of a microsecond to four digits.
        data = json.dumps(frame.to_dict(orient="records"), indent=1).encode()
    elif out.suffix == ".parquet":
        buffer = io.BytesIO()
        try:
            frame.to_parquet(buffer, index=False)
        except ImportError as error:
            raise BoardfitError(
                "writing Parquet needs pyarrow: pip install 'boardfit[parquet]', or export to .csv"
            ) from error
        data = buffer.getvalue()
    else:
        raise InputError(f"{out}: the ending says the format; use .csv, .json or .parquet")
    write_atomically(out, data)
    return len(frame)
