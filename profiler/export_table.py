"""Write a table's operators, or the samples of any file, for other programs."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd

from ..devices.errors import BoardfitError, InputError, TableFileError
from ..devices.files import write_atomically
from .evidence import samples_frame
from .store import Store
from .table import LookupTable


def export_table(table: LookupTable, out: Path) -> int:
    """Write all operators as CSV, JSON or Parquet, by the ending of `out`; return their number.

    Times are in seconds. Raises `InputError` for another ending, `StorageError`, and
    `BoardfitError` where Parquet's library is not installed.
    """
    return _write(table.frame(), out)


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
    return _write(frame, out)


def _write(frame: pd.DataFrame, out: Path) -> int:
    if out.suffix == ".csv":
        data = frame.to_csv(index=False).encode()
    elif out.suffix == ".json":
        # pandas would round to ten decimal places, of a microsecond to four digits.
        plain = frame.astype(object).where(frame.notna(), None)  # JSON has no NaN
        data = json.dumps(plain.to_dict(orient="records"), indent=1).encode()
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
