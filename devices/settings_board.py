"""How a board is asked for its settings, and told other ones; `settings.py` says when."""

from __future__ import annotations

import contextlib
import re
import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from .base import Completed, Transport
from .board_files import first_lines
from .errors import CommandFailed, InputError, SettingError, StorageError
from .jetson import (
    POWER_MODES_FILE,
    PowerMode,
    clocks_are_held,
    needs_reboot,
    parse_power_mode,
    parse_power_modes,
)
from .settings_record import Before, Wanted, parse_before

SCRIPT = Path(__file__).with_name("put_back.sh")
_TIMEOUT = 30.0  # seconds for one command; jetson_clocks takes some
_PUT_BACK_TIMEOUT = 90.0  # seconds; it may wait 20 for a watchdog that is doing the same
_MANY = 8  # commands for governors; a PC has one for each core, which is too long a line
_REMOVE = "remove it from the board's `settings` in boards.toml"
_NO_ANSWER = 'cd -- "$1" && shift && exec "$@" </dev/null'
_WATCH = """
cd / || exit
if command -v setsid >/dev/null 2>&1; then setsid sh "$@" </dev/null >/dev/null 2>&1 &
else nohup sh "$@" </dev/null >/dev/null 2>&1 &
fi
tries=0
until [ -s "$3/watchdog" ]; do
  tries=$((tries + 1))
  [ $tries -le 50 ] || exit 1
  sleep 0.1 2>/dev/null || sleep 1
done
"""
# jetson_clocks asks before it writes over an older file.
_OUR_FOLDER = 'mkdir -p -- "$1" && chmod 700 "$1" && rm -f -- "$1/clocks"'
_BEAT = 'printf "%s\\n" "$1" >"$2/heartbeat"'
# Its number may be another process's by now, for example after a restart.
_LIVES = """
read -r pid 2>/dev/null <"$1/watchdog" || exit 1
tr '\\000' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -q put_back.sh
"""


@dataclass
class SettingsBoard:
    """A board, what it says about its settings, and what is told to it.

    `workspace` is the folder that boardfit may fill, `gone_after` the seconds without a sign of
    life after which the host counts as gone, `root` is in front of /sys, /proc and /etc.
    """

    transport: Transport
    workspace: PurePosixPath
    gone_after: float
    root: str
    clock: Callable[[], float]

    @property
    def folder(self) -> PurePosixPath:
        """Where the record, the script and the sign of life lie."""
        return self.workspace / "settings"

    @property
    def every(self) -> float:
        """Seconds between two signs of life."""
        return self.gone_after / 4

    def run(self, argv: Sequence[str], timeout: float = _TIMEOUT) -> Completed:
        """Run a command on the board."""
        return self.transport.run(argv, timeout=timeout)

    def shell(self, script: str, *arguments: str, timeout: float = _TIMEOUT) -> Completed:
        """Run a script of ours on the board, to which the arguments are `$1` and so on."""
        return self.run(["sh", "-c", script, "sh", *arguments], timeout)

    def boot(self) -> str:
        """What the kernel drew when the board started; another one after a restart."""
        found = first_lines(self.transport, f"{self.root}/proc/sys/kernel/random/boot_id")
        return next(iter(found.values()), "unknown")

    def raw_record(self) -> str | None:
        """What was written down, as it lies there; `None` where nothing was."""
        done = self.run(["cat", str(self.folder / "before")])
        return done.stdout.decode(errors="replace") if done.code == 0 else None

    def record(self) -> Before | None:
        """What was written down; `None` where nothing was, or where it is damaged."""
        return parse_before(self.raw_record() or "")

    def governors(self) -> dict[str, str]:
        """The governor of each cpufreq policy whose cores are switched on."""
        base = f"{self.root}/sys/devices/system/cpu/cpufreq/policy[0-9]*/scaling_governor"
        found = first_lines(self.transport, base)
        return {PurePosixPath(path).parts[-2]: name for path, name in found.items()}

    def power_mode(self) -> int:
        """The number of the power mode that is set. Raises `SettingError`."""
        try:
            answer = _text(self.run(["nvpmodel", "-q"]))
        except CommandFailed as error:
            raise SettingError(
                f"nvpmodel: the board has no such program, which Jetsons have; {_REMOVE}"
            ) from error
        mode = parse_power_mode(answer)
        if mode is None:
            raise SettingError(
                f"nvpmodel: the board does not tell its power mode: {answer.strip()[-300:]}; see "
                "what `nvpmodel -q` says there"
            )
        return mode

    @cached_property
    def power_modes(self) -> tuple[PowerMode, ...]:
        """The power modes that there are."""
        done = self.run(["cat", f"{self.root}{POWER_MODES_FILE}"])
        return parse_power_modes(done.stdout.decode(errors="replace"))

    def mode_wanted(self, wanted: int | str) -> PowerMode:
        """The mode of that number or name. Raises `InputError` listing those there are."""
        modes = self.power_modes
        for mode in modes:
            if wanted in {mode.number, mode.name} or wanted == str(mode.number):
                return mode
        there = ", ".join(f"{mode.number} ({mode.name})" for mode in modes) or "none that it tells"
        raise InputError(f"nvpmodel: the board has no mode {wanted}; it has {there}")

    def prepare(self, wanted: Wanted) -> Before:
        """Write down what is there, having made sure that all that is wanted can be set.

        Nothing is changed before the record lies on the board.
        """
        before = Before(
            token=secrets.token_hex(16),
            boot=self.boot(),
            nvpmodel=None if wanted.nvpmodel is None else self._mode_to_leave(wanted.nvpmodel),
            jetson_clocks=wanted.jetson_clocks,
            fixed_performance=wanted.fixed_performance,
            governors=self._governors_to_leave(wanted.governor) if wanted.governor else {},
        )
        self._check_permissions(wanted, before)
        self.shell(_OUR_FOLDER, str(self.folder)).check()
        self.transport.push(SCRIPT, self.folder / SCRIPT.name)
        if wanted.jetson_clocks:
            done = self._as_root(["jetson_clocks", "--store", "clocks"])
            if done.code != 0 or "Error" in _text(done):
                raise self._refused("jetson_clocks", done)
        self._write_down(before)
        return before

    def watch(self, token: str) -> None:
        """Start what puts the settings back once we are gone."""
        limit = f"{round(self.gone_after)}"
        self.shell('rm -f -- "$1/watchdog" "$1/heartbeat"', str(self.folder)).check()
        script = str(self.folder / SCRIPT.name)
        done = self.shell(_WATCH, script, "watch", str(self.folder), self.root, token, limit)
        if done.code != 0:
            raise SettingError(
                "the watchdog that puts the settings back did not start on the board: "
                f"{_text(done).strip()[-300:] or 'it said nothing'}; see whether `sh`, `setsid` or "
                f"`nohup` are there, and whether {self.folder} can be written"
            )

    def is_watched(self) -> bool:
        """Whether a watchdog watches over the settings."""
        return self.shell(_LIVES, str(self.folder)).code == 0

    def beat(self, number: int) -> bool:
        """Give a sign of life; the number is another one each time. Whether it was taken down."""
        return self.shell(_BEAT, f"{number}", str(self.folder)).code == 0

    def set(self, wanted: Wanted, before: Before) -> Before:
        """Set what is wanted and verify it; what is to be put back then.

        The power mode comes first, since it switches cores on and off.
        """
        if wanted.nvpmodel is not None:
            mode = self.mode_wanted(wanted.nvpmodel)
            if mode.number != before.nvpmodel:  # it would ask for a reboot also for the same one
                self._set_power_mode(mode)
        if wanted.jetson_clocks:
            done = self._as_root(["jetson_clocks"])
            if done.code != 0 or "Error" in _text(done) or not self.clocks_are_held():
                raise self._refused("jetson_clocks", done)
        if wanted.fixed_performance:
            try:
                done = self.run(["cmd", "power", "set-fixed-performance-mode-enabled", "true"])
            except CommandFailed as error:
                raise SettingError(
                    f"fixed_performance: the board has no `cmd`, which Android has; {_REMOVE}"
                ) from error
            if done.code != 0 or "Failed" in _text(done):
                raise SettingError(
                    f"fixed_performance: {_text(done).strip()[-300:] or 'the phone refused'}; it "
                    "needs Android 11 and a vendor that supports it: go without, and pin to one "
                    "cluster instead"
                )
        if wanted.governor is not None:
            found = self.governors()
            if found.keys() - before.governors.keys():  # cores that the power mode switched on
                before = replace(before, governors={**found, **before.governors})
                self._write_down(before)
            self._set_governors(dict.fromkeys(found, wanted.governor))
        return before

    def clocks_are_held(self) -> bool:
        """Whether jetson_clocks holds the clocks, as far as it tells."""
        return clocks_are_held(_text(self._as_root(["jetson_clocks", "--show"]))) is not False

    def put_back(self) -> None:
        """Put back what is written down. Raises `SettingError` where that fails."""
        # On a full disk the script that lies there has to do, perhaps an older one.
        with contextlib.suppress(StorageError):
            self.transport.push(SCRIPT, self.folder / SCRIPT.name)
        script, folder = str(self.folder / SCRIPT.name), str(self.folder)
        done = self.run(["sh", script, "now", folder, self.root], _PUT_BACK_TIMEOUT)
        if done.code != 0:
            what = _text(done).strip()[-300:] or f"the script ended with code {done.code}"
            raise SettingError(
                f"not all of the board's settings could be put back ({what}); {folder}/before "
                "tells how they were. Put them back by hand and remove that file, or restart the "
                "board: a restart undoes all but the power mode"
            )

    def _mode_to_leave(self, wanted: int | str) -> int:
        now, mode = self.power_mode(), self.mode_wanted(wanted)
        gating = next((mode.gating for mode in self.power_modes if mode.number == now), {})
        if mode.number != now and mode.gating != gating:
            raise SettingError(
                f"nvpmodel: changing between the modes {now} and {mode.number} ({mode.name}) needs "
                "a reboot, since they switch off other parts of the GPU; set the mode by hand "
                f"(`sudo nvpmodel -m {mode.number}`, then reboot), or {_REMOVE}"
            )
        return now

    def _set_power_mode(self, mode: PowerMode) -> None:
        done = self._as_root(["nvpmodel", "-m", f"{mode.number}"])
        if needs_reboot(_text(done)):
            raise SettingError(
                f"nvpmodel: changing to mode {mode.number} ({mode.name}) needs a reboot; set it by "
                f"hand (`sudo nvpmodel -m {mode.number}`, then reboot), or {_REMOVE}"
            )
        if done.code != 0 or self.power_mode() != mode.number:
            raise self._refused("nvpmodel", done)

    def _governors_to_leave(self, wanted: str) -> dict[str, str]:
        found = self.governors()
        if not found:
            raise SettingError(
                "governor: the board shows no clock governor (virtual machines have none); "
                f"{_REMOVE}"
            )
        base = f"{self.root}/sys/devices/system/cpu/cpufreq/policy[0-9]*"
        choices = first_lines(self.transport, f"{base}/scaling_available_governors").values()
        for choice in choices:
            if wanted not in choice.split():
                raise InputError(f"governor: the board has no {wanted!r}; it has {choice:.200}")
        return found

    def _set_governors(self, governors: Mapping[str, str]) -> None:
        words = [word for pair in governors.items() for word in pair]
        script = ["sh", str(self.folder / SCRIPT.name), "governors", str(self.folder), self.root]
        done = self.run([*script, *words])
        if done.code != 0:
            raise self._refused("governor", done)

    def _write_down(self, before: Before) -> None:
        """Put the record on the board, whole; its folder is ours alone, and so is the file."""
        try:
            text = before.text()
        except ValueError as error:
            raise SettingError(
                f"the board's settings cannot be written down, so they are not changed: {error}; "
                f"{_REMOVE}"
            ) from error
        with tempfile.TemporaryDirectory(prefix="boardfit-") as folder:
            (Path(folder) / "before").write_text(text)
            self.transport.push(Path(folder) / "before", self.folder / "before")
        self.run(["chmod", "600", str(self.folder / "before")]).check()

    # Privileges

    def _as_root(self, argv: Sequence[str]) -> Completed:
        """Run a command as root in our folder, with nobody to answer what it asks."""
        sudo = [] if self._is_root else ["sudo", "-n"]
        return self.shell(_NO_ANSWER, str(self.folder), *sudo, *argv)

    @cached_property
    def _is_root(self) -> bool:
        return _text(self.run(["id", "-u"])).strip() == "0"

    def _check_permissions(self, wanted: Wanted, before: Before) -> None:
        """Make sure that we may set and put back, before anything is changed.

        Raises `SettingError` with the line for sudoers.
        """
        if self._is_root:
            return
        commands = self._privileged(wanted, before)
        if any(self.shell('exec sudo -n -l "$@"', *argv).code != 0 for argv in commands):
            raise self._needs_root(commands)

    def _privileged(self, wanted: Wanted, before: Before) -> list[list[str]]:
        """The commands that root has to run."""
        commands: list[list[str]] = []
        if before.nvpmodel is not None and wanted.nvpmodel is not None:
            modes = sorted({before.nvpmodel, self.mode_wanted(wanted.nvpmodel).number})
            if len(modes) > 1:
                commands += [["nvpmodel", "-m", f"{mode}"] for mode in modes]
        if wanted.jetson_clocks:
            for action in ("", "--show", "--store clocks", "--restore clocks"):
                commands.append(["jetson_clocks", *action.split()])
        base = f"{self.root}/sys/devices/system/cpu/cpufreq"
        for policy in before.governors:
            path = f"{base}/{policy}/scaling_governor"
            if self.run(["test", "-w", path]).code != 0:
                commands.append(["tee", path])
        return commands

    def _needs_root(self, commands: Sequence[Sequence[str]]) -> SettingError:
        files = [argv for argv in commands if argv[0] == "tee"]
        if len(files) > _MANY:  # a digit is matched by [0-9], and nothing else is
            alike = {re.sub(r"policy\d+", _digits, path) for _, path in files}
            commands = [argv for argv in commands if argv[0] != "tee"]
            commands += [["tee", path] for path in sorted(alike)]
        whole = [[self._where(argv[0]), *argv[1:]] for argv in commands]
        # In sudoers a command without arguments allows any; "" allows none.
        rules = ", ".join(" ".join(argv) if argv[1:] else f'{argv[0]} ""' for argv in whole)
        user = _text(self.run(["id", "-un"])).strip() or "USER"
        return SettingError(
            f"{user} may not change these settings on the board without a password. Allow it with "
            "`sudo visudo -f /etc/sudoers.d/boardfit` on the board and the line\n"
            f"{user} ALL=(root) NOPASSWD: {rules}\n"
            f"or {_REMOVE} (a phone needs `adb root` for a governor)"
        )

    def _where(self, program: str) -> str:
        return _text(self.shell('command -v "$1"', program)).strip() or program

    def _refused(self, setting: str, done: Completed) -> SettingError:
        words = _text(done).strip()[-300:] or f"code {done.code} without a word"
        return SettingError(
            f"{setting}: the board refused ({words}); try it there by hand, or {_REMOVE}"
        )


def _digits(policy: re.Match[str]) -> str:
    return f"policy{'[0-9]' * (len(policy[0]) - len('policy'))}"


def _text(done: Completed) -> str:
    return (done.stdout + done.stderr).decode(errors="replace")
