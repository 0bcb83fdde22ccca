"""Ten kills at random moments of a search: same trajectory, same weights, same files, bit for bit.

A search of a small space on the simulated board runs once undisturbed. Then it is begun again and
killed (SIGKILL) after random times, continued, and so on, until ten kills have hit it, each part at
least once; a search that comes to its end before is compared, and another one is begun.
"""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from bars import bar

from boardfit.api import build_table
from boardfit.profiler.connect import connect
from boardfit.profiler.schedule import Schedule
from boardfit.search.checkpoint import read_checkpoint

KILLS = 10
PARTS = {"super-network", "sampling", "final training"}  # that are hit, each
SEED = 0
OPTIONS = {"width_factor": 0.25}
CHILD = """
import sys
from pathlib import Path
import torch
from boardfit.profiler.connect import connect
from boardfit.profiler.table import LookupTable
from boardfit.search.compute import Compute
from boardfit.search.data import open_dataset
from boardfit.search.pipeline import search
from boardfit.search.recipe import parse_recipe
from boardfit.search.settings import SearchSettings
from boardfit.search.spaces import open_space
torch.set_num_threads(1)
space = open_space("mobilenetv3-32", width_factor=0.25)
data = open_dataset("shapes:300", input_shape=space.input_shape, classes=12, seed=0)
settings = SearchSettings(
    target="60%", evaluations=24, holdout_images=100,
    supernet=parse_recipe("steps=80,batch_size=16,average=0.9,learning_rate=0.01"),
    final=parse_recipe("steps=24,batch_size=16,optimizer=rmsprop,learning_rate=0.002,mixup=0.2,"
                       "distillation=0.5"),
)
table = LookupTable.open(sys.argv[1])
print("ready", flush=True)
search(
    space, table, connect("fake"), data, settings, Path(sys.argv[2]),
    allow_invalid_table=True, compute=Compute("cpu", checkpoint_seconds=0.1),
)
"""


def run(table: Path, folder: Path, seconds: float | None) -> bool:
    """Whether the search came to its end; it is killed after so many seconds."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(table), str(folder)], stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError("the search did not begin; what it said is above")
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            code = process.wait()
    if code not in {0, -signal.SIGKILL}:
        raise RuntimeError(f"the search ended with code {code}; what it said is above")
    return code == 0


def part_of(folder: Path) -> str:
    """What a search was at when it was killed."""
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    for name, part in (
        ("found.tflite", "measurement"),
        ("found.pt", "final training"),
        ("history.jsonl", "sampling"),
        ("supernet.pt", "super-network"),
    ):
        if name in names:
            return part
    return "beginning"


def differences(folder: Path, expected: Path) -> list[str]:
    """What a finished search has that the undisturbed one has not."""
    found = [
        name
        for name in ("history.jsonl", "found.tflite", "uniform.tflite")
        if (folder / name).read_bytes() != (expected / name).read_bytes()
    ]
    for name in ("supernet.pt", "found.pt", "uniform.pt"):
        ours, theirs = (read_checkpoint(place / name) for place in (folder, expected))
        for kind in ("module", "average"):
            if ours[kind] is None and theirs[kind] is None:
                continue
            same = all(torch.equal(ours[kind][n], value) for n, value in theirs[kind].items())
            if not same:
                found.append(f"{name} ({kind})")
    ours, theirs = (
        json.loads((place / "result.json").read_bytes()) for place in (folder, expected)
    )
    if ours["trials"] != theirs["trials"]:
        found.append("trials")
    return found


def lacks(hit: Counter[str]) -> bool:
    """Whether more kills are wanted."""
    return hit.total() < KILLS or not hit.keys() >= PARTS


def main() -> int:
    rng = np.random.default_rng(SEED)
    hit: Counter[str] = Counter()
    finished = different = 0
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        table = place / "table.boardfit"
        quick = Schedule(runs=2, minimum_rounds=2, maximum_rounds=2)
        build_table(
            "mobilenetv3-32", connect("fake"), table, options=OPTIONS, validation=10, schedule=quick
        )
        begin = time.monotonic()
        run(table, place / "undisturbed", None)
        whole = time.monotonic() - begin
        print(f"undisturbed: {whole:.0f} s", flush=True)
        while lacks(hit) or finished == 0:
            folder = place / f"killed{finished}"
            done = False
            while not done:
                limit = rng.uniform(0.0, 0.5) * whole if lacks(hit) else None
                done = run(table, folder, limit)
                if not done:
                    part = part_of(folder)
                    hit[part] += 1
                    print(f"kill {hit.total()} after {limit:.1f} s: {part}", flush=True)
            finished += 1
            wrong = differences(folder, place / "undisturbed")
            different += bool(wrong)
            print(f"search {finished} is finished; different: {', '.join(wrong) or 'nothing'}")
    print(f"kills by what they hit: {dict(hit)}")
    return int(
        not bar(f"killed searches of {finished} that end otherwise", different, 0, least=False,
                form="d")
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
