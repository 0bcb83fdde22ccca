"""How long `boardfit --help` takes, beside a bare Typer program: medians, run in turns."""

import statistics
import subprocess
import sys
import time

ROUNDS = 30
BARE = "import typer\napp = typer.Typer()\n@app.command()\ndef main():\n    pass\napp()\n"
PROGRAMS = {
    "boardfit --help": [sys.executable, "-m", "boardfit", "--help"],
    "a bare Typer program --help": [sys.executable, "-c", BARE, "--help"],
}


def main() -> None:
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
    print(f"ratio of the medians: {ours / bare:.2f} (bar: 2)")


if __name__ == "__main__":
    main()
