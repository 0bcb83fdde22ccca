"""`mobilenetv3-32` in float32 and in int8: how right both tables are, and what int8 costs."""

from pathlib import Path

from table_line import built

from boardfit.profiler.compare_dtypes import compare_dtypes
from boardfit.profiler.connect import connect
from boardfit.profiler.layers import DTYPES
from boardfit.search.spaces import open_space
from boardfit.search.tabulate import plan_table
from boardfit.summary import dtype_words

SPACE = "mobilenetv3-32"


def main(folder: Path) -> bool:
    """Build both tables as `boardfit profile --space` does, and compare them; no bar is set."""
    device = connect("local")
    space = open_space(SPACE)
    tables = {
        dtype: built(
            f"{SPACE}, {dtype}",
            folder / f"small-{dtype}.boardfit",
            device,
            plan_table(space, dtype=dtype),
        )
        for dtype in DTYPES
    }
    found = compare_dtypes(tables["float32"], tables["int8"])
    for group in found.kinds:
        print(
            f"{group.kind}: {group.operators} operators, {group.slower} slower in int8, median "
            f"ratio of int8 to float {group.ratio:.2f}"
        )
    for words in dtype_words(found):
        print(words)
    return True
