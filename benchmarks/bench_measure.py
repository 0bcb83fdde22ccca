"""Whether measurements and tables can be relied on: each part is a script of its own beside this.

python benchmarks/bench_measure.py [PART ...]     (all without a name)

Ends with exit code 1 where a part missed a bar.
"""

import subprocess
import sys
from pathlib import Path

PARTS = ("throughput", "capacity", "disturbance", "kills", "mutations")


def main() -> int:
    chosen = sys.argv[1:] or list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        print(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
        return 2
    failed = []
    for part in chosen:
        print(f"== {part}", flush=True)
        script = Path(__file__).with_name(f"measure_{part}.py")
        if subprocess.run([sys.executable, str(script)], check=False).returncode:
            failed.append(part)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
