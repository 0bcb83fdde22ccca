"""The command line as a person or a script uses it: in a process of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer

from boardfit.cli import app
from boardfit.profiler.emit_tflite import emit
from boardfit.profiler.import_table import import_table
from boardfit.profiler.one_run import reference_network
from boardfit.profiler.table import LookupTable

COMMANDS = [
    ["devices"],
    ["devices", "list"],
    ["devices", "add"],
    ["devices", "doctor"],
    ["devices", "setup"],
    ["devices", "worker"],
    ["profile"],
    ["table"],
    ["table", "show"],
    ["table", "verify"],
    ["table", "diff"],
    ["table", "merge"],
    ["table", "export"],
    ["table", "import"],
    ["samples"],
    ["table", "compare-dtypes"],
    ["table", "extend"],
    ["table", "transfer"],
    ["search"],
    ["report"],
    ["quickstart"],
]


def run(
    arguments: Sequence[str | Path], folder: Path, *, code: int = 0, timeout: float = 240.0
) -> subprocess.CompletedProcess[str]:
    """Run boardfit in a folder; check its exit code, and that no user ever sees a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "boardfit", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "COLUMNS": "200"},
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "reference.tflite"
    path.write_bytes(emit(reference_network()))
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of the small space on the fake board, by the command that users type."""
    path = tmp_path_factory.mktemp("tables") / "fake.boardfit"
    run(["profile", "--device", "fake", "--space", "mobilenetv3-32", "--out", path], path.parent)
    return path


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_and_stands_in_the_docs(command: list[str], tmp_path: Path) -> None:
    text = run([*command, "--help"], tmp_path).stdout
    assert "Usage:" in text
    assert len(text.splitlines()) > 5
    docs = (Path(__file__).parent.parent / "docs/commands.md").read_text()
    general, *sections = re.split("^(?=## )", docs, flags=re.MULTILINE)
    mine = [section for section in sections if f"boardfit {' '.join(command)}" in section]
    assert mine
    for option in set(re.findall(r"--[a-z][a-z0-9-]+", text)) - {"--help"}:
        assert option in "".join([general, *mine]), option


def test_no_command_is_left_out_above() -> None:
    def names(group: Any, *before: str) -> list[list[str]]:
        found = [list(before)] if before else []
        for name, command in getattr(group, "commands", {}).items():
            found += names(command, *before, name)
        return found

    assert sorted(names(typer.main.get_command(app))) == sorted(COMMANDS)


def test_help_lists_the_exit_codes(tmp_path: Path) -> None:
    words = " ".join(run(["--help"], tmp_path).stdout.split())
    for meaning in ("2 usage", "3 no such device", "4 measurement not", "5 constraint not met"):
        assert meaning in words


def test_help_of_a_long_command_is_in_groups(tmp_path: Path) -> None:
    text = run(["search", "--help"], tmp_path).stdout
    groups = dict(re.findall(r"^([A-Z][\w -]+):\n((?:  .*\n?)+)", text, re.MULTILINE))
    assert list(groups) == ["Options", "Super-network", "Optimizer", "Machines", "Found networks"]
    for group, option in (
        ("Options", "--latency"),
        ("Super-network", "--law"),
        ("Optimizer", "--evaluations"),
        ("Machines", "--tls-key"),
        ("Found networks", "--final-steps"),
    ):
        assert [name for name in groups if re.search(rf"^  {option}\b", groups[name], re.M)] == [
            group
        ]


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom boardfit.cli import main\nsys.argv = ['boardfit', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'pandas', 'plotly', 'numpy', 'scipy', 'sklearn', 'jinja2', 'onnx'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "LOADED []" in done.stdout


def test_the_python_face_imports_nothing_until_it_is_used(tmp_path: Path) -> None:
    program = "import sys, boardfit; print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_public_name_can_be_had() -> None:
    import boardfit

    assert all(getattr(boardfit, name) is not None for name in boardfit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = boardfit.nonsense


def test_devices_are_listed_for_people_and_for_programs(tmp_path: Path) -> None:
    assert "local" in run(["devices"], tmp_path).stdout
    rows = json.loads(run(["devices", "list", "--json"], tmp_path).stdout)
    # This machine may know hosts and phones, too, which have no names.
    assert [row["name"] for row in rows if row["name"]] == ["local", "fake"]


def test_a_model_is_measured_on_this_machine(model: Path, tmp_path: Path) -> None:
    done = run(["profile", "--device", "local", "--budget", "1", "--json", model], tmp_path)
    (row,) = json.loads(done.stdout)
    assert row["low_ms"] <= row["median_ms"] <= row["high_ms"]
    assert row["operators"] == 3
    assert row["verdict"] in {"steady", "noisy", "drifting", "throttled", "partial"}


def test_a_profile_is_kept_and_goes_on(model: Path, tmp_path: Path) -> None:
    arguments = ["profile", "--device", "fake", "--out", "kept.boardfit", "--json", str(model)]
    first = json.loads(run(arguments, tmp_path).stdout)
    assert json.loads(run(arguments, tmp_path).stdout) == first
    (row,) = json.loads(
        run([*arguments, "--sustained", "30s", "--precision", "1%"], tmp_path).stdout
    )
    assert row["median_ms"] > 0
    assert row["sessions"] >= 3
    assert row["session_low_ms"] < row["minimum_ms"] < row["session_high_ms"]
    assert row["sustained_for_s"] >= 30
    people = [word for word in arguments if word != "--json"]
    words = " ".join(run([*people, "--sustained", "30s"], tmp_path).stdout.split())
    assert "Under load for 30" in words
    assert "The smallest time of another session will fall between" in words
    assert "wrote" in run(["samples", "kept.boardfit", "samples.csv"], tmp_path).stdout
    assert (tmp_path / "samples.csv").read_text().startswith("key,role,run,round")


def test_a_table_is_shown_and_exported(table: Path, tmp_path: Path) -> None:
    words = " ".join(run(["table", "show", table], tmp_path).stdout.split())
    assert "60 networks that it has not seen" in words
    (row,) = json.loads(run(["table", "show", "--json", table], tmp_path).stdout)
    assert row["within_10_%"] == 100
    operators = json.loads(run(["table", "show", "--operators", "--json", table], tmp_path).stdout)
    assert all(0 < row["low_us"] < row["high_us"] for row in operators)
    assert len(operators) == row["operators"] == len(LookupTable.open(table).operators)
    run(["table", "export", table, "out.csv"], tmp_path)
    assert len((tmp_path / "out.csv").read_text().splitlines()) == row["operators"] + 1
    assert "out.xyz" in run(["table", "export", table, "out.xyz"], tmp_path, code=2).stderr


def test_tables_are_compared_united_and_brought_in(table: Path, tmp_path: Path) -> None:
    (tmp_path / "block.yaml").write_text("Conv_1-input:7x7x320-output:7x7x1280: 6.28\n")
    block: list[str | Path] = ["table", "import", "block.yaml", "b.boardfit", "--board", "Pixel 1"]
    assert "--unit ms" in run(block, tmp_path, code=2).stderr
    words = run([*block, "--unit", "ms"], tmp_path).stdout
    assert "imply 3.2 billion" in " ".join(words.split())
    (found,) = json.loads(run(["table", "diff", table, table, "--json"], tmp_path).stdout)
    assert (found["ratio"], found["conditions"], found["only_after"]) == (1.0, [], 0)
    words = run(["table", "diff", "b.boardfit", "b.boardfit", "--unshared"], tmp_path).stdout
    assert "equal conditions" in words
    merge: list[str | Path] = ["table", "merge", "--json", "m.boardfit", table, table]
    (row,) = json.loads(run(merge, tmp_path).stdout)
    assert (row["space"], row["within_10_%"]) == ("mobilenetv3-32", 100)
    run(["report", "b.boardfit", "m.boardfit", "--out", "page.html"], tmp_path)


def test_a_table_is_verified(table: Path, tmp_path: Path) -> None:
    verify: list[str | Path] = ["table", "verify", table, "--device", "fake", "--networks", "3"]
    words = " ".join(run([*verify, "--sample", "12"], tmp_path).stdout.split())
    assert "on 3 held-out networks" in words
    assert "The table holds." in words
    (tmp_path / "f.json").write_text('{"Conv_1-input:7x7x320-output:7x7x1280": 6.28}')
    import_table(tmp_path / "f.json", tmp_path / "f", unit="ms", conditions={"board": "Pixel 1"})
    done = run(["table", "verify", "f", "--device", "fake", "--json"], tmp_path, code=4)
    assert json.loads(done.stdout)[0]["holds"] is False
    assert "board: was 'Pixel 1'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["profile"], 2, "either a .tflite or .onnx file, or --space"),
        (["profile", "missing.tflite"], 2, "there is no model file missing.tflite"),
        (["profile", "missing.onnx"], 2, "there is no model file missing.onnx"),
        (["profile", "--space", "mobilenetv3-32", "--runtime", "tvm"], 2, "no runtime 'tvm'"),
        (["profile", "--nonsense"], 2, "No such option"),
        (["profile", "x.tflite", "--sustained", "soon"], 2, "write 30s, 10m or 1h"),
        (["profile", "x.tflite", "--precision", "2.5"], 2, "write a share such as 2%"),
        (["profile", "--space", "mobilenetv3-32", "--pause", "1"], 2, "for a single model"),
        (["samples", "missing.boardfit", "x.csv"], 2, "there is no table missing.boardfit"),
        (["profile", "--device", "pi5", "x.tflite"], 3, "pi5"),
        (["profile", "--space", "mobilenetv3-23", "--device", "fake"], 2, "mobilenetv3-32"),
        (["profile", "--space", "mobilenetv3-32", "--set", "size"], 2, "NAME=VALUE"),
        (["table", "show", "missing.boardfit"], 2, "there is no table missing.boardfit"),
        (["table", "verify", "missing.boardfit"], 2, "there is no table missing.boardfit"),
        (["table", "diff", "missing.boardfit", "x"], 2, "there is no table missing.boardfit"),
        (["table", "merge", "m.boardfit", "x"], 2, "there is no table x"),
        (["table", "import", "missing.yaml", "x"], 2, "missing.yaml: it does not exist"),
        (["report", "missing"], 2, "missing"),
        (["profile", "--dry-run", "m.tflite"], 2, "are for a table: give --space NAME"),
        (["profile", "--entries", "9", "m.tflite"], 2, "are for a table: give --space NAME"),
        (["profile", "--space", "mobilenetv3-32", "--entries", "0"], 2, "a number of operators"),
        (["profile", "--space", "mobilenetv3-32", "--pause", "1"], 2, "are for a single model"),
        (["search", "--table", "missing", "--latency", "fast"], 2, "is not a latency"),
        (["search", "--latency", "fast"], 2, "is not a latency"),
        (["search", "--data", "imagenet"], 2, "write imagenet:PATH"),
        (["search", "--final-recipe", "fast"], 2, "'fast' is no recipe"),
        (["search", "--accelerator", "tpu"], 2, "no accelerator is called 'tpu'"),
        (["search", "--optimizer", "magic"], 2, "no optimizer is called"),
        (["search", "--set", "kernels=3"], 2, "has to be a list of whole numbers"),
        (["search", "--set", "input_size=abc"], 2, "has to be a whole number"),
        (["devices", "--boards", "missing.toml"], 2, "missing.toml"),
    ],
)
def test_mistakes_end_in_one_sentence_and_the_documented_code(
    arguments: list[str], code: int, words: str, tmp_path: Path
) -> None:
    assert words in run(arguments, tmp_path, code=code).stderr


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "letter.tflite").write_text("Dear board,")
    done = run(["profile", "--device", "local", "letter.tflite"], tmp_path, code=2)
    assert "letter.tflite is not a TFLite model" in done.stderr


def test_a_target_that_no_network_meets_says_what_can_be_reached(
    table: Path, tmp_path: Path
) -> None:
    arguments: list[str | Path] = ["search", "--device", "fake", "--table", table]
    done = run([*arguments, "--latency", "1us", "--data", "shapes:200"], tmp_path, code=5)
    assert "the smallest value found is" in done.stderr


TABLE = "tables/fake-mobilenetv3-32.boardfit"
SMALL = ["--set", "width_factor=0.25"]
SEARCH = [
    "search", "--device", "fake", *SMALL, "--data", "shapes:200", "--latency", "60%",
    "--supernet-steps", "4", "--final-steps", "4", "--evaluations", "6",
]  # fmt: skip


def test_from_nothing_to_a_page(tmp_path: Path) -> None:
    """A search builds its table first, is read back when it is called again, and is reported."""
    done = run([*SEARCH, "--out", "run", "--json"], tmp_path)
    rows = json.loads(done.stdout)
    assert [row["network"] for row in rows] == ["found", "uniform"]
    assert (tmp_path / "tables/fake-mobilenetv3-32.boardfit").exists()
    assert (tmp_path / "run" / rows[0]["file"]).read_bytes()[4:8] == b"TFL3"
    assert json.loads(run([*SEARCH, "--out", "run", "--json"], tmp_path).stdout) == rows
    words = run([*SEARCH, "--out", "run"], tmp_path).stdout
    assert "the target of" in words
    run(["report", "run", "tables/fake-mobilenetv3-32.boardfit", "--out", "page.html"], tmp_path)
    assert "</html>" in (tmp_path / "page.html").read_text()
    # What a table of another space lacks for this one is measured on demand.
    before = json.loads(run(["table", "show", TABLE, "--json"], tmp_path).stdout)[0]
    arguments = [*SEARCH, "--table", TABLE, "--out", "other"]
    arguments[arguments.index("width_factor=0.25")] = "width_factor=0.375"
    run(arguments, tmp_path)
    after = json.loads(run(["table", "show", TABLE, "--json"], tmp_path).stdout)[0]
    assert after["operators"] > before["operators"]


def test_one_search_answers_several_latencies(tmp_path: Path) -> None:
    several = [*SEARCH, "--latency", "80%", "--race", "20", "--optimizer", "random", "--out", "run"]
    rows = json.loads(run([*several, "--json"], tmp_path).stdout)
    assert [(row["target"], row["network"]) for row in rows] == [
        ("60%", "found"), ("60%", "uniform"), ("80%", "found"), ("80%", "uniform"),
    ]  # fmt: skip
    for row in rows:
        assert (tmp_path / "run" / row["target"] / row["file"]).exists()
    words = run(several, tmp_path).stdout
    assert "boardfit report run/60% run/80%" in words
    done = run([*SEARCH, "--workers", "2", "--scheduler", "tcp://127.0.0.1:1"], tmp_path, code=2)
    assert "not both" in done.stderr
    done = run([*SEARCH, "--limit", "power=3"], tmp_path, code=2)
    assert "is not a limit" in done.stderr


def test_a_table_built_otherwise_serves_a_search(tmp_path: Path) -> None:
    table = ["profile", "--device", "fake", "--space", "mobilenetv3-32", *SMALL]
    run([*table, "--budget", "5", "--seed", "7", "--out", "mine.boardfit"], tmp_path)
    run([*SEARCH, "--table", "mine.boardfit", "--out", "run"], tmp_path)
    # Without --space and --set the space is the table's own: nothing is added to it.
    before = (tmp_path / "mine.boardfit").read_bytes()
    plain = [word for word in SEARCH if word not in SMALL]
    run([*plain, "--table", "mine.boardfit", "--out", "again"], tmp_path)
    assert (tmp_path / "mine.boardfit").read_bytes() == before


def test_an_interrupted_command_says_so_and_goes_on(tmp_path: Path) -> None:
    command = ["profile", "--device", "fake", "--space", "mobilenetv3-32", "--out", "t.boardfit"]
    # Tests that run in the background inherit that Ctrl-C is ignored; people's terminals do not.
    heeding = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
        "os.execv(sys.executable, [sys.executable, '-m', 'boardfit', *sys.argv[1:]])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", heeding, *command],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "t.boardfit").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    run(command, tmp_path)


def test_a_tool_that_is_not_there_or_not_for_this_board_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(emit(reference_network()))
    (tmp_path / "tool").write_bytes(b"\x7fELF\2\1" + bytes(12) + b"\x08\0" + bytes(44))  # MIPS
    for tool, words in (("none", "there is no program none"), ("tool", "built for machine 8")):
        done = run(["profile", "m.tflite", "--benchmark-model", tool], tmp_path, code=2)
        assert words in done.stderr
