"""How long `boardfit --help` takes, beside a bare Typer program: medians, run in turns."""

import statistics
import subprocess
import sys
import time

from bars import bar

ROUNDS = 30
MOST = 2.0  # times as long as the bare program
BARE = "import typer\napp = typer.Typer()\n@app.command()\ndef main():\n    pass\napp()\n"
PROGRAMS = {
    "boardfit --help": [sys.executable, "-m", "boardfit", "--help"],
    "a bare Typer program --help": [sys.executable, "-c", BARE, "--help"],
}


def main() -> int:
    seconds: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(ROUNDS):
        for name, argv in PROGRAMS.items():
            begin = time.perf_counter()
            subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
            seconds[name].append(time.perf_counter() - begin)
    ours, bare = (statistics.median(values) for values in seconds.values())
    for name, values in seconds.items():
        print(
            f"{name}: median {statistics.median(values) * 1e3:.0f} ms, smallest "
            f"{min(values) * 1e3:.0f} ms ({ROUNDS} starts)"
        )
    return int(not bar("ratio of the medians", ours / bare, MOST, least=False, form=".2f"))


if __name__ == "__main__":
    sys.exit(main())
