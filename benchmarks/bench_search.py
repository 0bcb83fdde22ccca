"""Whether the search is as good as it says: each part is a script of its own beside this.

python benchmarks/bench_search.py [PART ...]     (all but `HOURS` without a name)

Parts that train many networks keep each in `results/` (see `cells.py`): they train what is missing,
and print their tables from there. Ends with exit code 1 where a part missed a bar.
"""

import sys

from parts import run_parts

PARTS = ("targets", "export", "nasbench", "depth", "samples", "step", "kills", "imagenet", "gpu")
# Run where they are named, until their cells are there.
HOURS = ("supernet", "laws", "optimizers", "winners", "cost")

if __name__ == "__main__":
    sys.exit(run_parts(PARTS, "search", if_named=HOURS))
