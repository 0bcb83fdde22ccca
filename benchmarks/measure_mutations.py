"""Hundreds of thousands of spoilt files and lines: only named errors, soon, and nothing is run."""

import multiprocessing
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from bars import bar

sys.path.append(str(Path(__file__).parents[1]))

from tests.hostile_input import SUBJECTS, Tally, Watch, prepare, try_cases

CASES = {
    "table files": 4_000,
    "profile files": 4_000,
    "model files": 70_000,
    "worker lines": 21_000,
    "campaigns": 1_000,
    "benchmark_model outputs": 100_000,
    "trtexec outputs": 100_000,
    "trtexec files": 100_000,
    "tool sessions": 20_000,
    "adb servers": 25_000,
    "adb frames": 25_000,
    "adb shells": 25_000,
    "adb files": 25_000,
}
CHUNK = 250
MEMORY = 4 * 1024**3  # bytes of address space of a process; more is an error of the case
CHUNK_SECONDS = 600.0  # a chunk takes seconds; one that does not end is a hang in C

Result = tuple[str, int, Tally, list[str], int]


def main() -> int:
    if CASES.keys() != SUBJECTS.keys():
        raise RuntimeError(f"cases of {sorted(CASES)}, but there are {sorted(SUBJECTS)}")
    begin = time.monotonic()
    jobs = [
        (subject, range(first, min(first + CHUNK, count)))
        for subject, count in CASES.items()
        for first in range(0, count, CHUNK)
    ]
    tallies = {subject: Tally() for subject in CASES}
    wrong: list[str] = []
    memory = 0
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        results = pool.imap_unordered(_chunk, jobs)
        for _ in jobs:
            subject, _, tally, found, peak = results.next(CHUNK_SECONDS)
            tallies[subject].join(tally)
            wrong += found
            memory = max(memory, peak)
    for subject, tally in tallies.items():
        endings = sorted(tally.endings.items(), key=lambda item: -item[1])
        words = ", ".join(f"{name} {count}" for name, count in endings)
        total = sum(tally.endings.values())
        print(f"{subject}: {total} cases, longest {tally.longest:.1f} s; {words}")
    for words in wrong[:20]:
        print(f"WRONG {words}")
    print(
        f"{sum(CASES.values())} cases in {time.monotonic() - begin:.0f} s; at most "
        f"{memory / 2**20:.0f} MiB a process"
    )
    return int(not bar("wrong", len(wrong), 0, least=False, form="d"))


def _chunk(job: tuple[str, range]) -> Result:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    subject, numbers = job
    global _watch
    _watch = _watch or Watch()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        tally, wrong = try_cases(subject, numbers, folder, _watch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return subject, len(numbers), tally, wrong, peak


_watch: Watch | None = None

if __name__ == "__main__":
    sys.exit(main())
