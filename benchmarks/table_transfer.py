"""A sister's table from a donor's and 200 measurements, beside the sister's full table.

The donor is this machine on one thread. The sisters are the same machine on two threads, and with
tflite-runtime in an environment of its own (Python 3.11 and NumPy 1; made here where it can be).
"""

import subprocess
import sys
from pathlib import Path

from table_line import built

from boardfit.devices.base import Device
from boardfit.devices.errors import BoardfitError
from boardfit.devices.inventory import BoardEntry
from boardfit.devices.local import local_device
from boardfit.profiler.build import build_table
from boardfit.profiler.connect import connect
from boardfit.profiler.plan import plan_transfer
from boardfit.search.mobilenetv3 import open_space
from boardfit.search.tabulate import plan_table

SPACE = "mobilenetv3-32"
PACKAGES = ("tflite-runtime==2.14.0", "numpy<2")


def main(folder: Path) -> None:
    """Build the donor's table, and each sister's in full and by transfer."""
    plan = plan_table(open_space(SPACE))
    donor = built("donor: one thread", folder / "donor.boardfit", connect("local"), plan)
    sisters: list[tuple[str, Device, int]] = [("two threads", connect("local"), 2)]
    if (tflite := tflite_device(folder / "tflite-runtime")) is not None:
        sisters.append(("tflite-runtime", tflite, 1))
    for name, device, threads in sisters:
        stem = name.replace(" ", "-")
        built(f"{name}, full", folder / f"{stem}.boardfit", device, plan, threads=threads)
        transfer = plan_transfer(donor)
        path = folder / f"{stem}-transferred.boardfit"
        built(f"{name}, transferred", path, device, transfer, threads=threads)
        try:
            build_table(donor.path, device, plan, threads=threads)
        except BoardfitError as error:
            print(f"mixing {name} into the donor's table is refused: {error}")


def tflite_device(environment: Path) -> Device | None:
    """This machine with tflite-runtime, in an environment made for it; None where it has none."""
    python = environment / "bin/python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", environment], check=True)
            install = [python, "-m", "pip", "install", "--quiet", *PACKAGES]
            subprocess.run(install, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([python, "-c", "import tflite_runtime.interpreter"], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"tflite-runtime cannot be installed here ({error}); left out")
        return None
    return local_device(BoardEntry("local", "local", python=str(python.absolute())))
