"""Whether work on boards can be relied on: each part is a script of its own beside this.

python benchmarks/bench_boards.py [PART ...]     (all without a name)

Ends with exit code 1 where a part missed a bar.
"""

import sys

from parts import run_parts

if __name__ == "__main__":
    sys.exit(run_parts(("faults", "link", "fleet", "parsers")))
