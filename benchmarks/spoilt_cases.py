"""Spoilt cases by the thousand, in as many processes as there are cores; see measure_mutations.py
and measure_parsers.py."""

import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from bars import bar

sys.path.append(str(Path(__file__).parents[1]))

from tests.hostile_input import SUBJECTS as SUBJECTS
from tests.hostile_input import Tally, Watch, prepare, try_cases

CHUNK = 250
MEMORY = 4 * 1024**3  # bytes of address space of a process; more is an error of the case
CHUNK_SECONDS = 600.0  # a chunk takes seconds; one that does not end is a hang in C

Result = tuple[str, int, Tally, list[str], int]


def try_all(cases: Mapping[str, int]) -> int:
    """Try so many cases of each subject, and print how they ended; 1 where one went wrong."""
    begin = time.monotonic()
    jobs = [
        (subject, range(first, min(first + CHUNK, count)))
        for subject, count in cases.items()
        for first in range(0, count, CHUNK)
    ]
    tallies = {subject: Tally() for subject in cases}
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
        print(f"{subject}: {total:,} cases, longest {tally.longest:.1f} s; {words}")
    for words in wrong[:20]:
        print(f"WRONG {words}")
    print(
        f"{sum(cases.values())} cases in {time.monotonic() - begin:.0f} s; at most "
        f"{memory / 2**20:.0f} MiB a process"
    )
    return int(not bar("wrong", len(wrong), 0, least=False, form="d"))


def _chunk(job: tuple[str, range]) -> Result:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    subject, numbers = job
    global _watch, _folder
    _watch = _watch or Watch()
    if _folder is None:
        _folder = tempfile.TemporaryDirectory()
        prepare(Path(_folder.name))
    tally, wrong = try_cases(subject, numbers, Path(_folder.name), _watch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return subject, len(numbers), tally, wrong, peak


# Of this process: what sees its doings, and the sound files that its cases begin with.
_watch: Watch | None = None
_folder: tempfile.TemporaryDirectory[str] | None = None
