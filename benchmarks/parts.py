"""Benchmarks in parts: each is a script of its own, run one after the other."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def run_parts(
    parts: Sequence[str], prefix: str = "measure", *, if_named: Sequence[str] = ()
) -> int:
    """Run the parts that the command line names, or all but those that take hours and run only
    `if_named`, each in `PREFIX_PART.py`; 1 where one missed a bar, 2 where there is no such part.
    """
    chosen = sys.argv[1:] or list(parts)
    known = [*parts, *if_named]
    if unknown := set(chosen) - set(known):
        print(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        return 2
    failed = []
    for part in chosen:
        print(f"== {part}", flush=True)
        script = Path(__file__).with_name(f"{prefix}_{part}.py")
        if subprocess.run([sys.executable, str(script)], check=False).returncode:
            failed.append(part)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return int(bool(failed))
