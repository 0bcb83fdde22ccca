"""A board's settings are as wanted while it measures, and as they were before afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from boardfit.devices.errors import (
    ConditionsChanged,
    DeviceError,
    InputError,
    MeasurementError,
    SettingError,
)
from boardfit.devices.fake import FakeTransport, SimulatedClock
from boardfit.devices.local import LocalTransport
from boardfit.devices.settings import applied, restore_leftovers
from boardfit.devices.settings_record import Wanted

from .shimmed_board import CPUFREQ, NOBODY, OrdinaryUser, ShimmedBoard, shimmed_board

# Debian's and Ubuntu's, Android's with Android's tools, and that of small images.
SHELLS = [shell for shell in ("dash", "bash", "mksh", "busybox") if shutil.which(shell)]
TOYBOX = ("cat", "chmod", "cp", "mkdir", "nohup", "rm", "rmdir", "setsid", "sleep", "tee")
PERFORMANCE = {"policy0": "performance", "policy4": "performance"}
SCHEDUTIL = {"policy0": "schedutil", "policy4": "schedutil"}


def eventually(holds: Callable[[], bool], seconds: float = 20.0) -> float:
    """Wait until something holds; the seconds that it took."""
    begin = time.monotonic()
    while not holds():
        assert time.monotonic() - begin < seconds, "it never came to be"
        time.sleep(0.02)
    return time.monotonic() - begin


@pytest.fixture
def pi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ShimmedBoard]:
    yield from watched(shimmed_board("raspberry_pi", tmp_path, monkeypatch))


@pytest.fixture
def jetson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ShimmedBoard]:
    yield from watched(shimmed_board("jetson", tmp_path, monkeypatch))


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ShimmedBoard]:
    yield from watched(shimmed_board("android", tmp_path, monkeypatch))


def watched(board: ShimmedBoard) -> Iterator[ShimmedBoard]:
    """The board; behind the test no watchdog of it is left."""
    yield board
    with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
        os.kill(int((board.settings / "watchdog").read_text()), signal.SIGKILL)
    assert not list(Path(board.root).rglob("pwned"))


def change(
    board: ShimmedBoard, wanted: Wanted, **options: float
) -> contextlib.AbstractContextManager[object]:
    return applied(board.transport, wanted, board.workspace, root=board.root, **options)  # type: ignore[arg-type]


def leftovers(board: ShimmedBoard, **options: bool) -> bool:
    return restore_leftovers(board.transport, board.workspace, root=board.root, **options)


# Nothing is changed unless asked


def test_nothing_is_touched_where_nothing_is_wanted(pi: ShimmedBoard) -> None:
    with change(pi, Wanted()):
        assert pi.governors() == SCHEDUTIL
    assert not pi.settings.exists()
    assert pi.log() == []


def test_a_board_without_a_shell_has_nothing_to_put_back(tmp_path: Path) -> None:
    board = ShimmedBoard(tmp_path, transport=FakeTransport())  # type: ignore[arg-type]
    assert not leftovers(board)
    with change(board, Wanted()):
        pass


# Set, and put back


@pytest.mark.parametrize("shell", SHELLS)
def test_a_governor_is_set_and_put_back(
    pi: ShimmedBoard, shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = pi.folder / "shell"
    programs.mkdir()
    found = shutil.which(shell)
    assert found is not None
    (programs / "sh").symlink_to(found)
    if shell == "mksh" and (toybox := shutil.which("toybox")):
        for tool in TOYBOX:
            (programs / tool).symlink_to(toybox)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    with change(pi, Wanted(governor="performance"), gone_after=3):
        assert pi.governors() == PERFORMANCE
        record = pi.settings / "before"
        assert record.stat().st_mode & 0o777 == 0o600
        assert pi.settings.stat().st_mode & 0o777 == 0o700
        assert "governor policy4 schedutil" in record.read_text()
    assert pi.governors() == SCHEDUTIL
    assert not (pi.settings / "before").exists()
    eventually(lambda: not (pi.settings / "watchdog").exists())


def test_different_governors_come_back_each_to_its_place(pi: ShimmedBoard) -> None:
    pi.write(f"{CPUFREQ}/policy4/scaling_governor", "powersave\n")
    with change(pi, Wanted(governor="performance")):
        assert pi.governors() == PERFORMANCE
    assert pi.governors() == {"policy0": "schedutil", "policy4": "powersave"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MeasurementError])
def test_an_error_in_the_middle_is_told_and_the_settings_are_put_back(
    pi: ShimmedBoard, error: type[BaseException]
) -> None:
    with pytest.raises(error, match="in the middle"), change(pi, Wanted(governor="performance")):
        raise error("in the middle")
    assert pi.governors() == SCHEDUTIL


def test_all_of_a_jetsons_settings(jetson: ShimmedBoard) -> None:
    wanted = Wanted(governor="performance", nvpmodel="MAXN_SUPER", jetson_clocks=True)
    minimum = f"{CPUFREQ}/policy0/scaling_min_freq"
    with change(jetson, wanted):
        assert (jetson.state / "mode").read_text() == "2\n"
        assert jetson.governors() == PERFORMANCE
        assert jetson.read(minimum) == "1510400"
    assert (jetson.state / "mode").read_text() == "0\n"
    assert jetson.governors() == SCHEDUTIL
    assert jetson.read(minimum) == "729600"
    log = jetson.log()
    assert log[0] == "jetson_clocks --store clocks"  # before any change
    assert log.index("nvpmodel -m 2") < log.index("jetson_clocks ")
    assert log[-2:] == ["nvpmodel -m 0", "jetson_clocks --restore clocks"]


def test_the_mode_that_is_set_already_is_not_set_again(jetson: ShimmedBoard) -> None:
    jetson.set("needs_reboot", "0\n")  # nvpmodel asks for a reboot also then
    with change(jetson, Wanted(nvpmodel=0, jetson_clocks=True)):
        pass
    assert not [line for line in jetson.log() if line.startswith("nvpmodel")]


def test_cores_that_a_mode_switches_on_and_off_keep_their_governor(jetson: ShimmedBoard) -> None:
    jetson.write(f"{CPUFREQ}/policy4/scaling_governor", "powersave\n")
    with change(jetson, Wanted(governor="performance", nvpmodel=1)):
        assert jetson.governors() == {"policy0": "performance"}
    before = {"policy0": "schedutil", "policy4": "powersave"}
    assert jetson.governors() == before
    jetson.set("mode", "1\n")
    policy = Path(jetson.root) / CPUFREQ / "policy4"
    policy.rename(jetson.state / "policy4")
    with change(jetson, Wanted(governor="performance", nvpmodel=0)):
        assert jetson.governors() == PERFORMANCE
    assert jetson.governors() == {"policy0": "schedutil"}
    assert (jetson.state / "policy4" / "scaling_governor").read_text() == "powersave\n"


def test_fixed_performance_is_switched_on_and_off(phone: ShimmedBoard) -> None:
    with change(phone, Wanted(fixed_performance=True)):
        assert (phone.state / "fixed").read_text() == "true\n"
    assert (phone.state / "fixed").read_text() == "false\n"


# What cannot be set


@pytest.mark.parametrize(
    ("wanted", "error", "words"),
    [
        (Wanted(governor="ondemand"), InputError, "no 'ondemand'; it has performance powersave"),
        (Wanted(nvpmodel=7), InputError, r"no mode 7; it has 0 \(15W\), 1 \(7W\)"),
        (Wanted(nvpmodel="15"), InputError, "no mode 15"),
        (
            Wanted(nvpmodel=3),
            SettingError,
            r"between the modes 0 and 3 \(MODE_50W\) needs a reboot",
        ),
        (Wanted(fixed_performance=True), SettingError, "no `cmd`, which Android has"),
    ],
)
def test_what_the_board_does_not_have_is_refused(
    jetson: ShimmedBoard, wanted: Wanted, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words), change(jetson, wanted):
        pytest.fail("it was let through")
    assert jetson.log() == []


def test_a_mode_that_needs_a_reboot_is_refused_and_nothing_answers_the_question(
    jetson: ShimmedBoard,
) -> None:
    jetson.set("needs_reboot", "2\n")
    wanted = Wanted(nvpmodel=2, jetson_clocks=True)
    with (
        pytest.raises(SettingError, match=r"mode 2 \(MAXN_SUPER\) needs a reboot"),
        change(jetson, wanted),
    ):
        pytest.fail("it was let through")
    assert not (jetson.state / "rebooted").exists()
    assert (jetson.state / "mode").read_text() == "0\n"


def test_a_board_without_power_modes_says_so(phone: ShimmedBoard) -> None:
    with (
        pytest.raises(SettingError, match="no such program, which Jetsons have"),
        change(phone, Wanted(nvpmodel=0)),
    ):
        pytest.fail("it was let through")


def test_a_board_without_a_governor_says_so(pi: ShimmedBoard) -> None:
    shutil.rmtree(Path(pi.root) / CPUFREQ)
    with (
        pytest.raises(SettingError, match="shows no clock governor"),
        change(pi, Wanted(governor="performance")),
    ):
        pytest.fail("it was let through")


def test_a_phone_that_refuses_fixed_performance_says_why(phone: ShimmedBoard) -> None:
    phone.set("fixed_refused", "")
    with (
        pytest.raises(SettingError, match=r"Power HAL AIDL is not implemented.*Android 11"),
        change(phone, Wanted(fixed_performance=True)),
    ):
        pytest.fail("it was let through")


def test_of_two_settings_the_first_is_put_back_where_the_second_fails(jetson: ShimmedBoard) -> None:
    jetson.set("clocks_refuse", "")
    wanted = Wanted(governor="performance", nvpmodel=2, jetson_clocks=True)
    with pytest.raises(SettingError, match="Failed to max GPU"), change(jetson, wanted):
        pytest.fail("it was let through")
    assert (jetson.state / "mode").read_text() == "0\n"
    assert jetson.governors() == SCHEDUTIL
    assert not (jetson.settings / "before").exists()


def test_one_policy_of_two_that_takes_no_governor(pi: ShimmedBoard) -> None:
    stubborn = Path(pi.root) / CPUFREQ / "policy4" / "scaling_governor"
    stubborn.unlink()
    stubborn.symlink_to("/dev/full")
    (stubborn.parent / "scaling_available_governors").unlink()
    pi.write(f"{CPUFREQ}/policy2/scaling_governor", "schedutil\n")
    stubborn.unlink()
    stubborn.symlink_to("/proc/self/comm")  # it says `cat`, or whoever reads it
    with pytest.raises(SettingError, match="governor"), change(pi, Wanted(governor="performance")):
        pytest.fail("it was let through")
    assert pi.read(f"{CPUFREQ}/policy0/scaling_governor") == "schedutil"
    assert pi.read(f"{CPUFREQ}/policy2/scaling_governor") == "schedutil"


# Privileges


@pytest.fixture
def ordinary(monkeypatch: pytest.MonkeyPatch) -> Iterator[ShimmedBoard]:
    """A Jetson reached as a user who is not root, in a folder that this one may enter."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        board = shimmed_board("jetson", folder, monkeypatch)
        monkeypatch.setenv("SHIM_NEEDS_ROOT", "1")
        board.transport = OrdinaryUser()
        board.user("kim")
        for policy in ("policy0", "policy4"):
            (Path(board.root) / CPUFREQ / policy / "scaling_governor").chmod(0o444)
        if os.geteuid() == 0:
            folder.chmod(0o755)
            for path in (folder, *folder.rglob("*")):
                os.chown(path, NOBODY, NOBODY)
        yield from watched(board)


def test_without_permission_nothing_is_changed_and_the_line_for_sudoers_is_told(
    ordinary: ShimmedBoard,
) -> None:
    wanted = Wanted(governor="performance", nvpmodel=2, jetson_clocks=True)
    with (
        pytest.raises(SettingError, match="kim may not change") as caught,
        change(ordinary, wanted),
    ):
        pytest.fail("it was let through")
    line = next(line for line in str(caught.value).splitlines() if line.startswith("kim ALL="))
    programs = ordinary.folder / "bin"
    governors = [
        f"{shutil.which('tee')} {ordinary.root}/{CPUFREQ}/{policy}/scaling_governor"
        for policy in ("policy0", "policy4")
    ]
    assert line.removeprefix("kim ALL=(root) NOPASSWD: ").split(", ") == [
        *(f"{programs}/nvpmodel -m {mode}" for mode in (0, 2)),
        f'{programs}/jetson_clocks ""',
        *(
            f"{programs}/jetson_clocks {action}"
            for action in ("--show", "--store clocks", "--restore clocks")
        ),
        *governors,
    ]
    assert ordinary.log() == []
    assert ordinary.governors() == SCHEDUTIL


def test_what_sudo_allows_is_done_through_it(ordinary: ShimmedBoard) -> None:
    files = [f"{ordinary.root}/{CPUFREQ}/{name}/scaling_governor" for name in SCHEDUTIL]
    ordinary.user(
        "kim",
        "nvpmodel -m 0",
        "nvpmodel -m 2",
        "jetson_clocks",
        "jetson_clocks --show",
        "jetson_clocks --store clocks",
        "jetson_clocks --restore clocks",
        *(f"tee {file}" for file in files),
    )
    wanted = Wanted(governor="performance", nvpmodel=2, jetson_clocks=True)
    with change(ordinary, wanted):
        assert ordinary.governors() == PERFORMANCE
        assert (ordinary.state / "mode").read_text() == "2\n"
    assert ordinary.governors() == SCHEDUTIL
    assert (ordinary.state / "mode").read_text() == "0\n"
    assert f"sudo tee {files[0]}" in ordinary.log()


def test_permission_for_the_way_there_but_not_back_is_none(ordinary: ShimmedBoard) -> None:
    ordinary.user("kim", "nvpmodel -m 2")
    with pytest.raises(SettingError, match="nvpmodel -m 0, "), change(ordinary, Wanted(nvpmodel=2)):
        pytest.fail("it was let through")
    assert (ordinary.state / "mode").read_text() == "0\n"


# The host is killed, or the link lost

HOST = """
import sys, time
from pathlib import PurePosixPath
from boardfit.devices.local import LocalTransport
from boardfit.devices.settings import applied
from boardfit.devices.settings_record import Wanted
workspace, root, gone_after = PurePosixPath(sys.argv[1]), sys.argv[2], float(sys.argv[3])
wanted = Wanted(governor="performance", nvpmodel=2, jetson_clocks=True)
with applied(LocalTransport(), wanted, workspace, root=root, gone_after=gone_after):
    print("ready", flush=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def another_host(board: ShimmedBoard, gone_after: float) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has changed the settings, and stays until it is killed."""
    arguments = [str(board.workspace), board.root, str(gone_after)]
    with subprocess.Popen([sys.executable, "-c", HOST, *arguments], stdout=subprocess.PIPE) as host:
        try:
            assert host.stdout is not None
            assert host.stdout.readline() == b"ready\n"
            assert board.governors() == PERFORMANCE
            yield host
        finally:
            host.kill()


def test_the_watchdog_puts_back_what_a_killed_host_left(jetson: ShimmedBoard) -> None:
    with another_host(jetson, gone_after=3) as host:
        time.sleep(3.5)  # longer than that while it lives: nothing is put back
        assert jetson.governors() == PERFORMANCE
        host.send_signal(signal.SIGKILL)
        took = eventually(lambda: not (jetson.settings / "before").exists())
    assert took < 3 + 2  # the tools take some time themselves, on a machine with other work
    assert jetson.governors() == SCHEDUTIL
    assert (jetson.state / "mode").read_text() == "0\n"
    assert jetson.read(f"{CPUFREQ}/policy0/scaling_min_freq") == "729600"
    eventually(lambda: not (jetson.settings / "watchdog").exists())  # and ends


def test_the_next_connect_leaves_alone_what_is_watched_over(jetson: ShimmedBoard) -> None:
    with another_host(jetson, gone_after=60):
        assert not leftovers(jetson)
        assert jetson.governors() == PERFORMANCE


def test_the_next_connect_puts_back_what_a_killed_host_left(jetson: ShimmedBoard) -> None:
    with another_host(jetson, gone_after=60) as host:
        watchdog = int((jetson.settings / "watchdog").read_text())
        host.kill()
        os.kill(watchdog, signal.SIGKILL)
        eventually(lambda: not Path(f"/proc/{watchdog}").exists() or zombie(watchdog))
        assert leftovers(jetson, owner_is_gone=True)
    assert jetson.governors() == SCHEDUTIL
    assert (jetson.state / "mode").read_text() == "0\n"
    assert not leftovers(jetson)


def zombie(process: int) -> bool:
    """Whether a process has ended, and only nobody has asked for its code."""
    return ") Z " in Path(f"/proc/{process}/stat").read_text()


def test_whoever_holds_the_board_puts_back_before_it_changes(jetson: ShimmedBoard) -> None:
    with another_host(jetson, gone_after=60) as host:
        host.kill()
        with change(jetson, Wanted(governor="powersave")):
            assert set(jetson.governors().values()) == {"powersave"}
            assert "schedutil" in (jetson.settings / "before").read_text()
    assert jetson.governors() == SCHEDUTIL


def test_after_a_restart_only_the_power_mode_is_put_back(jetson: ShimmedBoard) -> None:
    with another_host(jetson, gone_after=60) as host:
        host.kill()
        os.kill(int((jetson.settings / "watchdog").read_text()), signal.SIGKILL)
        # A Jetson starts with the mode that was set last; all else is as it always is at the start.
        jetson.write("proc/sys/kernel/random/boot_id", "99999999-2222-3333-4444-555555555555\n")
        jetson.write(f"{CPUFREQ}/policy0/scaling_governor", "powersave\n")
        log = len(jetson.log())
        assert leftovers(jetson, owner_is_gone=True)
    assert jetson.governors() == {"policy0": "powersave", "policy4": "performance"}
    assert jetson.log()[log:] == ["nvpmodel -m 0"]
    assert not (jetson.settings / "before").exists()


class Unlucky(LocalTransport):
    """A link that breaks."""

    lost = False

    def run(self, argv, *, timeout):  # type: ignore[no-untyped-def]
        if self.lost:
            raise DeviceError("the link broke; connect again")
        return super().run(argv, timeout=timeout)


def test_a_lost_link_is_told_and_the_board_helps_itself(pi: ShimmedBoard) -> None:
    link = pi.transport = Unlucky()
    with (
        pytest.raises(DeviceError, match="the link broke"),
        change(pi, Wanted(governor="performance"), gone_after=3),
    ):
        link.lost = True
    eventually(lambda: pi.governors() == SCHEDUTIL)


def test_values_are_not_believed_where_the_board_helped_itself_meanwhile(pi: ShimmedBoard) -> None:
    with (
        pytest.raises(ConditionsChanged, match="heard nothing from here for 3 s"),
        change(pi, Wanted(governor="performance"), gone_after=3, beats=False),
    ):
        eventually(lambda: not (pi.settings / "before").exists())
    assert pi.governors() == SCHEDUTIL


def test_beats_that_the_caller_gives_keep_the_settings(pi: ShimmedBoard) -> None:
    with applied(
        pi.transport,
        Wanted(governor="performance"),
        pi.workspace,
        root=pi.root,
        gone_after=3,
        beats=False,
    ) as board:
        for _ in range(30):  # it would have put them back after two seconds and a bit
            time.sleep(0.1)
            board.beat()
        assert pi.governors() == PERFORMANCE


def test_a_governor_that_something_else_changes_is_noticed(pi: ShimmedBoard) -> None:
    with (
        pytest.raises(ConditionsChanged, match="policy4 is powersave and no longer perf"),
        change(pi, Wanted(governor="performance")),
    ):
        pi.write(f"{CPUFREQ}/policy4/scaling_governor", "powersave\n")
    assert pi.governors() == SCHEDUTIL


# What cannot be put back


def test_what_cannot_be_put_back_is_told_and_stays_written_down(jetson: ShimmedBoard) -> None:
    with (
        pytest.raises(SettingError, match=r"put back \(jetson_clocks\).*before tells"),
        change(jetson, Wanted(governor="performance", jetson_clocks=True)),
    ):
        jetson.set("clocks_stuck", "")
    assert jetson.governors() == SCHEDUTIL  # what can be is
    (jetson.state / "clocks_stuck").unlink()
    assert leftovers(jetson, owner_is_gone=True)
    assert not (jetson.settings / "before").exists()


def fail_in_the_middle(board: ShimmedBoard) -> None:
    board.set("clocks_stuck", "")
    raise MeasurementError("in the middle")


def test_an_error_in_the_middle_is_not_hidden_by_one_at_the_end(jetson: ShimmedBoard) -> None:
    with (
        pytest.raises(MeasurementError, match="middle") as caught,
        change(jetson, Wanted(jetson_clocks=True)),
    ):
        fail_in_the_middle(jetson)
    assert any("could not be put back" in note for note in caught.value.__notes__)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("end\n", ""),
        lambda text: text.replace("policy0", "policy0/../../../../etc"),
        lambda text: text.replace("schedutil", "$(touch pwned)"),
        lambda text: text.replace("governor", "run touch"),
        lambda text: text.replace("boardfit-settings 1", "boardfit-settings 2"),
        lambda text: f"{text}governor policy0 powersave\n",
        lambda text: "",
    ],
)
def test_a_record_that_is_damaged_changes_nothing(
    pi: ShimmedBoard, spoil: Callable[[str], str]
) -> None:
    record = pi.settings / "before"
    with contextlib.ExitStack() as stack:
        stack.enter_context(change(pi, Wanted(governor="performance")))
        sound = record.read_text()
        record.write_text(spoilt := spoil(sound))
        with pytest.raises(SettingError, match="the record is damaged"):
            leftovers(pi, owner_is_gone=True)
        assert pi.governors() == PERFORMANCE
        assert record.read_text() == spoilt
        record.write_text(sound)
    assert pi.governors() == SCHEDUTIL


@pytest.mark.parametrize(
    "line",
    ["/etc/passwd:root", "/sys/../etc/passwd:x", "/sys/a:$(touch${IFS}pwned)", "relative/x:1"],
)
def test_stored_clocks_that_lead_elsewhere_are_not_restored(
    jetson: ShimmedBoard, line: str
) -> None:
    with (
        pytest.raises(SettingError, match="jetson_clocks"),
        change(jetson, Wanted(jetson_clocks=True)),
        (jetson.settings / "clocks").open("a") as clocks,
    ):
        clocks.write(f"{line}\n")
    assert "jetson_clocks --restore clocks" not in jetson.log()


# A cool board


def test_a_cool_board_is_waited_for(pi: ShimmedBoard) -> None:
    clock = SimulatedClock()
    zone = "sys/class/thermal/thermal_zone0"
    pi.write(f"{zone}/type", "cpu-thermal\n")
    pi.write(f"{zone}/temp", "71000\n")

    def cooling(seconds: float) -> None:
        clock.sleep(seconds)
        pi.write(f"{zone}/temp", f"{71_000 - 500 * clock.now():.0f}\n")

    with applied(
        pi.transport,
        Wanted(governor="performance", cool_below=60.0),
        pi.workspace,
        root=pi.root,
        clock=clock.now,
        sleep=cooling,
    ) as board:
        assert board.cooled == pytest.approx(24, abs=2)
    with (
        pytest.raises(MeasurementError, match="less than 20 °C was asked for"),
        applied(
            pi.transport,
            Wanted(governor="performance", cool_below=20.0, cool_at_most=10.0),
            pi.workspace,
            root=pi.root,
            clock=clock.now,
            sleep=clock.sleep,
        ),
    ):
        pytest.fail("it was let through")
    assert pi.governors() == SCHEDUTIL


# What is wanted


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"governor": "$(reboot)"}, "governor"),
        ({"governor": ""}, "governor"),
        ({"nvpmodel": -1}, "nvpmodel"),
        ({"nvpmodel": "a b"}, "nvpmodel"),
        ({"cool_below": float("nan")}, "cool_below"),
        ({"cool_below": 400.0}, "cool_below"),
        ({"cool_at_most": float("inf")}, "cool_at_most"),
    ],
)
def test_settings_that_cannot_be_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=f"{words}: "):
        Wanted(**options)  # type: ignore[arg-type]
