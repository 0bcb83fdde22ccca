"""A sister's table from a donor's and 200 measurements, beside the sister's full table.

The donor is this machine on one thread. The sisters are the same machine on two threads, and with
tflite-runtime in an environment of its own (Python 3.11 and NumPy 1): that of the variable
`BOARDFIT_TFLITE_PYTHON` where it is set, else one that is made here where it can be.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from table_line import built

from boardfit.devices.base import Device
from boardfit.devices.board_entry import BoardEntry
from boardfit.devices.errors import ConditionsChanged
from boardfit.devices.local import local_device
from boardfit.profiler.build import sources
from boardfit.profiler.campaign import run_campaign
from boardfit.profiler.connect import connect
from boardfit.profiler.plan import plan_transfer
from boardfit.profiler.schedule import Schedule
from boardfit.profiler.store import Store
from boardfit.profiler.table import LookupTable
from boardfit.search.spaces import open_space
from boardfit.search.tabulate import plan_table

SPACE = "mobilenetv3-32"
PACKAGES = ("tflite-runtime==2.14.0", "numpy<2")


def main(folder: Path) -> bool:
    """Build the donor's table, and each sister's in full and by transfer; whether mixing a sister
    into the donor's table was always refused."""
    plan = plan_table(open_space(SPACE))
    donor = built("donor: one thread", folder / "donor.boardfit", connect("local"), plan)
    sisters: list[tuple[str, Device, int]] = [("two threads", connect("local"), 2)]
    if (tflite := tflite_device(folder / "tflite-runtime")) is not None:
        sisters.append(("tflite-runtime", tflite, 1))
    refused = True
    for name, device, threads in sisters:
        stem = name.replace(" ", "-")
        built(f"{name}, full", folder / f"{stem}.boardfit", device, plan, threads=threads)
        transfer = plan_transfer(donor)
        path = folder / f"{stem}-transferred.boardfit"
        built(f"{name}, transferred", path, device, transfer, threads=threads)
        refused &= mixing_refused(donor, name, device, threads, folder / f"{stem}-mixed.boardfit")
    return refused


def mixing_refused(donor: LookupTable, name: str, device: Device, threads: int, path: Path) -> bool:
    """Whether one run more of the donor's table cannot be measured on a sister."""
    shutil.copy(donor.path, path)  # the donor's table stays as it is, should it not be refused
    try:
        with Store.open(path, write=True) as store:
            models = sources(store.entries().values())
            run_campaign(
                store, device, models, replace(Schedule(), runs=donor.runs + 1), threads=threads
            )
    except ConditionsChanged as error:
        print(f"met: mixing {name} into the donor's table is refused: {error}")
        return True
    finally:
        path.unlink()
    print(f"MISSED: mixing {name} into the donor's table is not refused")
    return False


def tflite_device(environment: Path) -> Device | None:
    """This machine with tflite-runtime, in an environment made for it; None where it has none."""
    given = os.environ.get("BOARDFIT_TFLITE_PYTHON")
    python = Path(given) if given else environment / "bin/python"
    try:
        if not given and not python.exists():
            subprocess.run([sys.executable, "-m", "venv", environment], check=True)
            install = [str(python), "-m", "pip", "install", "--quiet", *PACKAGES]
            subprocess.run(install, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([python, "-c", "import tflite_runtime.interpreter"], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"tflite-runtime cannot be used here ({error}); left out")
        return None
    return local_device(BoardEntry("local", "local", python=str(python.absolute())))
