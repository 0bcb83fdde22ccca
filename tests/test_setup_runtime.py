"""A runtime for a board: which one fits, how it gets there, and what is left of it afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal

import pip
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boardfit.devices.board_entry import BoardEntry
from boardfit.devices.doctor import read_python
from boardfit.devices.errors import DeviceError, DeviceLost, InputError
from boardfit.devices.local import LocalTransport, local_device
from boardfit.devices.runtime_choice import (
    PROBE,
    BoardPython,
    RuntimeChoice,
    choose_runtime,
    fulfils,
    parse_probe,
    platform_tags,
)
from boardfit.devices.runtime_findings import python_findings
from boardfit.devices.setup_runtime import (
    download,
    download_command,
    push_wheels,
    remove,
    set_up,
    set_up_board,
    wheels_folder,
)
from boardfit.profiler.connect import connect
from boardfit.profiler.emit_tflite import emit
from boardfit.profiler.one_run import reference_network
from boardfit.profiler.run_litert import WorkerSession
from boardfit.profiler.visits import Model, Visit

PI5 = BoardPython((3, 11, 2), "aarch64", "Linux", (2, 36))
JETPACK5 = BoardPython((3, 9, 5), "aarch64", "Linux", (2, 31))
PI_32BIT = BoardPython((3, 11, 2), "armv7l", "Linux", (2, 36))
PC = BoardPython((3, 14, 0), "x86_64", "Linux", (2, 31))


# Which one


@pytest.mark.parametrize(
    ("python", "requirements", "index"),
    [
        (PI5, ("ai-edge-litert==2.3.0",), None),
        (PC, ("ai-edge-litert==2.3.0",), None),
        (JETPACK5, ("ai-edge-litert==2.1.0",), None),
        (
            PI_32BIT,
            ("tflite-runtime==2.14.0", "numpy<2"),
            "https://www.piwheels.org/simple",
        ),
    ],
)
def test_each_board_gets_what_fits(
    python: BoardPython, requirements: tuple[str, ...], index: str | None
) -> None:
    choice = choose_runtime(python)
    assert (choice.requirements, choice.index) == (requirements, index)


@pytest.mark.parametrize(
    ("python", "words"),
    [
        (replace(PI5, system="Darwin"), "prepared for Linux boards, and this one runs 'Darwin'"),
        (replace(PI5, glibc=None), "does not run on glibc"),
        (replace(PI5, machine="riscv64"), "no runtime has wheels for riscv64"),
        (replace(PI5, machine="armv6l"), "no runtime has wheels for armv6l"),
        (replace(PI5, version=(3, 9, 0)), "has wheels for Python 3.10 to 3.14, and the board has"),
        (replace(JETPACK5, version=(3, 8, 10)), "has wheels for Python 3.9 to 3.13"),
        (replace(JETPACK5, glibc=(2, 24)), "needs glibc 2.27; install a newer system"),
        (replace(PI_32BIT, version=(3, 12, 1)), "has wheels for Python 3.8 to 3.11"),
        (replace(PI_32BIT, glibc=(2, 31)), "needs glibc 2.34; install a newer system"),
    ],
)
def test_what_has_no_runtime_is_refused_with_the_reason(python: BoardPython, words: str) -> None:
    with pytest.raises(DeviceError, match=words):
        choose_runtime(python)


def test_wheels_of_every_older_glibc_are_taken() -> None:
    tags = platform_tags(JETPACK5)
    assert tags[0] == "manylinux_2_31_aarch64"
    assert "manylinux_2_17_aarch64" in tags
    assert tags[-2:] == ("manylinux2014_aarch64", "linux_aarch64")
    assert "manylinux_2_5_x86_64" in platform_tags(PC)
    command = download_command(choose_runtime(PI_32BIT), PI_32BIT, Path("/w"))
    assert command[command.index("--extra-index-url") + 1] == "https://www.piwheels.org/simple"
    assert command[-3:] == ["tflite-runtime==2.14.0", "numpy<2", "pip"]
    assert command[command.index("--python-version") + 1] == "3.11"


def test_what_is_there_counts_only_where_it_works() -> None:
    choice = RuntimeChoice(("tflite-runtime==2.14.0", "numpy<2"))
    good = replace(PI5, versions={"tflite-runtime": "2.14.0", "numpy": "1.26.4"})
    assert fulfils(choice, good)
    assert not fulfils(choice, replace(good, versions={**good.versions, "numpy": "2.0.2"}))
    assert not fulfils(choice, replace(good, versions={**good.versions, "tflite-runtime": "2.13"}))
    assert not fulfils(choice, replace(good, problems={"numpy": "ImportError: libopenblas"}))
    assert not fulfils(RuntimeChoice(("ai-edge-litert==2.3.0",)), good)


def test_this_interpreter_says_what_it_is() -> None:
    python, words = read_python(LocalTransport(), sys.executable)
    assert words == ""
    assert python is not None
    assert python.version == sys.version_info[:3]
    assert python.usable("numpy")
    assert python_findings(python, "", "local")[0].state == "ok"


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_whatever_an_interpreter_prints_is_understood_or_not(text: str) -> None:
    assert parse_probe(text) is None


def test_a_32_bit_interpreter_on_a_64_bit_kernel_is_a_32_bit_board() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    said = {**json.loads(done.stdout), "machine": "aarch64", "bits": 32}
    python = parse_probe("a warning\n" + json.dumps(said))
    assert python is not None
    assert python.machine == "armv7l"


def test_findings_about_a_runtime() -> None:
    def runtime(python: BoardPython) -> tuple[str, str, str]:
        finding = python_findings(python, "", "b")[-1]
        return finding.state, finding.words, finding.fix

    none = runtime(PI5)
    assert none[:2] == ("problem", "none is installed")
    assert none[2] == "`boardfit devices setup b` installs ai-edge-litert==2.3.0"
    litert = {"ai-edge-litert": "2.3.0", "numpy": "2.2.1"}
    assert runtime(replace(PI5, versions=litert))[0] == "ok"
    glibc = "ImportError: /lib/libc.so.6: version `GLIBC_2.34' not found (required by x.so)"
    broken = replace(JETPACK5, versions=litert, problems={"ai-edge-litert": glibc})
    state, words, fix = runtime(broken)
    assert (state, words) == (
        "problem",
        "ai-edge-litert 2.3.0 is installed and needs a newer glibc than the board's 2.31",
    )
    assert "installs ai-edge-litert==2.1.0 (later ones need glibc 2.34 on arm64)" in fix
    tflite = replace(PI_32BIT, versions={"tflite-runtime": "2.14.0", "numpy": "2.0.2"})
    assert "tflite-runtime fails with NumPy 2" in runtime(tflite)[1]
    assert "NumPy is not" in runtime(replace(PI5, versions={"ai-edge-litert": "2.3.0"}))[1]
    assert "wheels for Python 3.10" in runtime(replace(PI5, version=(3, 8, 0)))[2]
    (old,) = python_findings(replace(PI5, version=(3, 7, 3)), "", "b")
    assert old.state == "problem"
    assert python_findings(None, "there is none", "b")[0].words == "there is none"


# How it gets there; the wheels are made up, so that no network is needed


def wheel(folder: Path, name: str, version: str, files: dict[str, str], *, needs: str = "") -> None:
    """A wheel of a pure package, as pip installs it."""
    info = f"{name}-{version}.dist-info"
    texts = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + (f"Requires-Dist: {needs}\n" if needs else ""),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*texts, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in {**texts, f"{info}/RECORD": record}.items():
            archive.writestr(path, text)


def pip_wheel(folder: Path) -> None:
    """The pip of this environment as a wheel."""
    source = Path(pip.__file__).parent
    with zipfile.ZipFile(folder / f"pip-{pip.__version__}-py3-none-any.whl", "w") as archive:
        for file in source.rglob("*"):
            if file.suffix in {".py", ".pem", ".txt"}:
                archive.write(file, file.relative_to(source.parent))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter without any package."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return str(folder / "bin" / "python")


@pytest.fixture
def cache(tmp_path: Path, bare: str) -> Path:
    """A cache in which the wheels for that interpreter lie, as after a download."""
    python, _ = read_python(LocalTransport(), bare)
    assert python is not None
    choice = choose_runtime(python)
    folder = wheels_folder(choice, python, tmp_path / "cache")
    folder.mkdir(parents=True)
    wheel(folder, "numpy", "2.2.1", {"numpy/__init__.py": ""})
    name, _, version = choice.requirements[0].partition("==")
    module = name.replace("-", "_")
    files = {f"{module}/__init__.py": "", f"{module}/interpreter.py": "class Interpreter: ..."}
    wheel(folder, module, version, files, needs="numpy")
    pip_wheel(folder)
    hashes = {w.name: hashlib.sha256(w.read_bytes()).hexdigest() for w in folder.glob("*.whl")}
    (folder / "wheels.json").write_text(json.dumps(hashes))
    return tmp_path / "cache"


class Watched(LocalTransport):
    """This machine with counted pushes; the link breaks after some, or spoils what is sent."""

    def __init__(self, *, breaks_after: int | None = None, spoils: bool = False) -> None:
        super().__init__()
        self.pushed: list[str] = []
        self._breaks_after = breaks_after
        self._spoils = spoils

    def push(self, local: Path, remote: PurePosixPath) -> None:
        if self._breaks_after is not None and len(self.pushed) >= self._breaks_after:
            raise DeviceLost("the link broke; run the same command again")
        super().push(local, remote)
        self.pushed.append(remote.name)
        if self._spoils:
            data = bytearray(Path(remote).read_bytes())
            data[len(data) // 2] ^= 1
            Path(remote).write_bytes(data)


def test_a_board_without_internet_is_given_wheels(tmp_path: Path, bare: str, cache: Path) -> None:
    workspace = PurePosixPath(tmp_path / "a workspace; $(touch pwned)")
    Path(workspace).mkdir()
    (Path(workspace) / "mine").write_text("kept")
    said: list[str] = []
    transport = Watched()
    found = set_up(transport, workspace, bare, cache, say=said.append)
    assert found.source == "host"
    assert found.interpreter == workspace / "runtime/env/bin/python"
    assert len(transport.pushed) == 3
    assert sorted(os.listdir(workspace / "runtime")) == ["env"]  # the wheels are gone again
    assert said[1] == (
        "The board cannot install it by itself (it has no pip); wheels come from this host."
    )
    python, _ = read_python(transport, str(found.interpreter))
    assert python is not None
    assert fulfils(found.choice, python)
    again = set_up(transport, workspace, bare, cache)
    assert (again.source, len(transport.pushed)) == ("present", 3)
    assert remove(transport, workspace)
    assert not remove(transport, workspace)
    assert os.listdir(workspace) == ["mine"]
    assert not list(tmp_path.rglob("pwned"))


def test_pushing_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        wheel(tmp_path, name, "1.0", {})
    wheels = {w: hashlib.sha256(w.read_bytes()).hexdigest() for w in tmp_path.glob("*.whl")}
    folder = PurePosixPath(tmp_path / "board")

    def push(transport: Watched) -> None:
        push_wheels(transport, sys.executable, folder, wheels, lambda words: None)

    broken = Watched(breaks_after=2)
    with pytest.raises(DeviceLost):
        push(broken)
    (Path(folder) / "old-1.0-py3-none-any.whl").write_text("of another time")
    spoiling = Watched(spoils=True)
    with pytest.raises(DeviceError, match=r"whl arrived otherwise than sent: the link or the boa"):
        push(spoiling)
    sound = Watched()
    push(sound)
    assert (len(broken.pushed), len(spoiling.pushed), len(sound.pushed)) == (2, 1, 1)
    assert spoiling.pushed == sound.pushed
    assert sorted(os.listdir(folder)) == sorted(path.name for path in wheels)


def test_a_spoilt_download_is_not_pushed(tmp_path: Path, bare: str, cache: Path) -> None:
    """It is downloaded again, which needs pip to reach something: here it is told of nothing."""
    python, _ = read_python(LocalTransport(), bare)
    assert python is not None
    choice = replace(choose_runtime(python), requirements=("no-such-package==1",))
    with pytest.MonkeyPatch.context() as patch:
        for name, text in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}.items():
            patch.setenv(name, text)
        with pytest.raises(InputError, match=r"this host cannot download no-such-package==1 for"):
            download(choice, python, cache)
        real = choose_runtime(python)
        folder = wheels_folder(real, python, cache)
        assert len(download(real, python, cache)) == 3
        next(iter(folder.glob("numpy*"))).write_bytes(b"spoilt")
        with pytest.raises(InputError, match=r"this host cannot download ai-edge-litert"):
            download(real, python, cache)


def test_only_the_board_was_asked(tmp_path: Path, bare: str, cache: Path) -> None:
    with pytest.raises(
        DeviceError, match=r"the board cannot install .*: it has no pip; without --"
    ):
        set_up(Watched(), PurePosixPath(tmp_path / "w"), bare, cache, source="board")


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ({"system": "Darwin"}, "prepared for Linux boards"),
        ({"libc": None}, "does not run on glibc"),
        ({"machine": "mips64"}, "no runtime has wheels for mips64"),
    ],
)
def test_a_board_that_nothing_fits_is_left_as_it_is(
    tmp_path: Path, says: dict[str, object], words: str
) -> None:
    said = {
        "python": [3, 11, 2],
        "bits": 64,
        "machine": "aarch64",
        "system": "Linux",
        "libc": "glibc 2.36",
        "versions": {},
        "problems": {},
        **says,
    }
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\ncat <<'EOF'\n{json.dumps(said)}\nEOF\n")
    python.chmod(0o755)
    workspace = PurePosixPath(tmp_path / "work")
    with pytest.raises(DeviceError, match=words):
        set_up(LocalTransport(), workspace, str(python), tmp_path / "cache")
    assert not Path(workspace).exists()


def test_without_python_there_is_nothing_to_set_up(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"no program 'python9'.*; install python3 there"):
        set_up(LocalTransport(), PurePosixPath(tmp_path), "python9", tmp_path / "cache")
    fake = connect("fake")
    with pytest.raises(DeviceError, match="the fake board simulates its worker"):
        set_up_board(fake)


# For real; needs a package index


@pytest.mark.boards
@pytest.mark.timeout(900)
@pytest.mark.parametrize("source", ["board", "host"])
def test_a_runtime_is_installed_and_measures(
    tmp_path: Path, source: Literal["board", "host"]
) -> None:
    interpreter = str(tmp_path / "base/bin/python")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "base"], check=True)
    workspace = PurePosixPath(tmp_path / "work")
    found = set_up(LocalTransport(), workspace, interpreter, tmp_path / "cache", source=source)
    assert found.source == source
    entry = BoardEntry("b", "local", python=str(found.interpreter), workspace=workspace)
    with local_device(entry) as device, WorkerSession(device) as session:
        assert session.hello["runtime"] == "ai-edge-litert"
        session.load_one(Model("m", lambda: emit(reference_network())))
        (visit, _) = session.measure([("m", 1)])
        assert isinstance(visit, Visit)
        assert visit.seconds[0] > 0
    assert remove(LocalTransport(), workspace)


@pytest.mark.boards
@pytest.mark.timeout(900)
@pytest.mark.parametrize("python", [PI5, JETPACK5], ids=str)
def test_wheels_of_other_machines_are_downloaded(tmp_path: Path, python: BoardPython) -> None:
    choice = choose_runtime(python)
    names = [path.name for path in download(choice, python, tmp_path)]
    version = choice.requirements[0].partition("==")[2]
    tag = f"cp{python.version[0]}{python.version[1]}"
    assert any(
        name.startswith(f"ai_edge_litert-{version}-{tag}-") and name.endswith("aarch64.whl")
        for name in names
    )
    assert any(name.startswith("numpy-") and name.endswith("aarch64.whl") for name in names)
    assert any(name.startswith("pip-") for name in names)
