"""A board's settings while it measures: set on request, verified, and put back however it ends.

    with applied(transport, Wanted(governor="performance"), workspace) as board:
        ...                       # board.check() says whether they still hold

What was there before is written down on the board before anything is changed. It is put back at the
end, after an error and after Ctrl-C; where the host was killed or lost the link, a watchdog on the
board does it, `gone_after` seconds after the host's last sign of life; and where the board was off
meanwhile, the host's next connect (`restore_leftovers`). A job that goes on after the board has
restarted, or has put its settings back, sets them anew (`Applied.renew`), and keeps nothing that
was measured in between (`Applied.require`).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from .base import Transport
from .board_entry import BoardEntry
from .board_state import wait_until_cool
from .clocks import lasting
from .errors import BoardfitError, ConditionsChanged, DeviceLost, DeviceTimeout
from .settings_board import SettingsBoard
from .settings_record import Before, Wanted

SHORTEST = 3.0  # seconds of `gone_after`: the watchdog looks once a second at most
_JOIN = 30.0  # seconds for a sign of life that is under way at the end


@dataclass
class Applied:
    """A board whose settings are as wanted for the moment.

    `before` is what will be put back (`None`: nothing was changed), `cooled` the seconds that were
    waited for a cool board.
    """

    wanted: Wanted
    before: Before | None = None
    cooled: float = 0.0
    _board: SettingsBoard | None = field(default=None, repr=False)
    _beats: int = field(default=0, repr=False)
    _last_beat: float = field(default=float("-inf"), repr=False)
    _heard: float = field(default=float("-inf"), repr=False)  # of the last sign that it took down
    _required: bool = field(default=False, repr=False)

    def beat(self) -> None:
        """Tell the board that its host is there; needed where no thread does it.

        To be called as often as one likes: it does something once in a quarter of `gone_after`.
        """
        if self._board is not None and self._board.clock() - self._last_beat >= self._board.every:
            began = self._last_beat = self._board.clock()
            self._beats += 1
            if self._board.beat(self._beats):
                self._heard = began

    def require(self) -> None:
        """Return where the board has not put its settings back; it is asked only where in doubt.

        Raises `DeviceLost` where it has: what was measured since it last heard from us is worth
        nothing, and whoever goes on sets them anew (`renew`). A job that asks this before it keeps
        anything may end after the board has put them back.
        """
        self._required = True
        if self._board is None or self.before is None:
            return
        if self._board.clock() - self._heard > self._board.gone_after / 2 and not self._is_ours():
            raise DeviceLost(
                "the board has put its settings back, since it heard nothing from here for "
                f"{self._board.gone_after:g} s; look after the link to it, and run the same "
                "command again"
            )

    def renew(self) -> bool:
        """Set anew what the board has put back, or a restart has undone; whether it had to be.

        Raises what `applied` raises.
        """
        if self._board is None or self.before is None:
            return False
        if self._is_ours() and self._board.boot() == self.before.boot:
            if not self._board.is_watched():  # it ended with a login, say
                self._begin(self._board, self.before)
            return False
        self._board.put_back()
        self.before = self._board.prepare(self.wanted)
        self.before = self._begin(self._board, self.before)
        return True

    def _begin(self, board: SettingsBoard, before: Before) -> Before:
        """Have the settings watched over, and set them; what is to be put back then."""
        board.watch(before.token)
        self._last_beat = float("-inf")
        self.beat()
        return board.set(self.wanted, before)

    def _is_ours(self) -> bool:
        """Whether what is written down on the board is what we have changed."""
        assert self._board is not None
        assert self.before is not None
        there = self._board.record()
        return there is not None and there.token == self.before.token

    def check(self) -> None:
        """Make sure that the settings still hold.

        Raises `ConditionsChanged` where something on the board has changed them, or where it has
        put them back since it did not hear from us for long.
        """
        if self._board is None or self.before is None:
            return
        if not self._is_ours():
            if self._required:
                return
            raise ConditionsChanged(
                "the board put its settings back while it was measured, since it heard nothing "
                f"from here for {self._board.gone_after:g} s; look after the link and measure again"
            )
        if self._board.boot() != self.before.boot:
            return  # a restart has undone them, and ended whatever was measured under them
        if self.wanted.governor is not None:
            for policy, name in self._board.governors().items():
                if name != self.wanted.governor:
                    raise ConditionsChanged(
                        f"the governor of {policy} is {name} and no longer {self.wanted.governor}; "
                        "end what changes it on the board (power-saving services do), and measure "
                        "again"
                    )
        if self.wanted.nvpmodel is not None:
            mode, wanted = self._board.power_mode(), self._board.mode_wanted(self.wanted.nvpmodel)
            if mode != wanted.number:
                raise ConditionsChanged(
                    f"the power mode is {mode} and no longer {wanted.number}; end what changes it "
                    "on the board, and measure again"
                )
        if self.wanted.jetson_clocks and not self._board.clocks_are_held():
            raise ConditionsChanged(
                "the clocks are no longer held as jetson_clocks had set them; end what changes "
                "them on the board, and measure again"
            )


_APPLIED: ContextVar[tuple[Applied, ...]] = ContextVar("boardfit_settings", default=())


def settings_on(transport: Transport) -> Applied | None:
    """What this thread has set on a board over this way; None where it has changed nothing."""
    return next((a for a in _APPLIED.get() if a._board and a._board.transport is transport), None)


@contextlib.contextmanager
def applied(
    transport: Transport,
    wanted: Wanted,
    workspace: PurePosixPath,
    *,
    gone_after: float = 60.0,
    beats: bool = True,
    root: str = "",
    clock: Callable[[], float] = lasting,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Applied]:
    """Set what is wanted, wait for a cool board, and put back what was there before.

    Whoever calls holds the board for himself: leftovers of an earlier host are put back first.
    `beats`: a thread tells the board that we live, over the same transport; without it the caller
    calls `Applied.beat` often. `gone_after` seconds after the last sign of life, or up to a third
    of it earlier, the board puts the settings back. `root` is in front of /sys, /proc and /etc.

    Raises `SettingError` where a setting is refused or cannot be put back, `InputError` where the
    board has no such governor or mode, `ConditionsChanged` where they did not hold until the end,
    `MeasurementError` where the board does not cool down, and what the transport raises.
    """
    if not SHORTEST <= gone_after <= 3600:
        raise ValueError(f"a host cannot count as gone after {gone_after} s")
    board = SettingsBoard(transport, workspace, gone_after, root, clock)
    restore_leftovers(transport, workspace, root=root, owner_is_gone=True)
    state = Applied(wanted, _board=board if wanted.changes else None)
    with contextlib.ExitStack() as stack:
        if wanted.changes:
            state.before = board.prepare(wanted)
            stack.push(_put_back_after(board))
            state.before = state._begin(board, state.before)
            if beats:
                stack.enter_context(_beating(state, board.every))
        if wanted.cool_below is not None:

            def pause(seconds: float) -> None:
                state.beat()
                sleep(seconds)

            state.cooled = wait_until_cool(
                transport,
                wanted.cool_below,
                at_most=wanted.cool_at_most,
                root=root,
                clock=clock,
                sleep=pause if not beats else sleep,
            )
        _APPLIED.set((*_APPLIED.get(), state))
        try:
            yield state
        finally:
            _APPLIED.set(tuple(other for other in _APPLIED.get() if other is not state))
        _once_more(state.check)


def wanted_of(entry: BoardEntry) -> Wanted:
    """What the inventory has a board measured under: its `settings`, and `limits.start_below`.

    Raises `InputError` where a value cannot be used.
    """
    settings = entry.settings
    return Wanted(
        governor=settings.governor,
        fixed_performance=bool(settings.fixed_performance),
        nvpmodel=settings.nvpmodel,
        jetson_clocks=bool(settings.jetson_clocks),
        cool_below=entry.limits.start_below,
    )


def restore_leftovers(
    transport: Transport,
    workspace: PurePosixPath,
    *,
    root: str = "",
    owner_is_gone: bool = False,
) -> bool:
    """Put back what a host that was killed left on the board; whether there was anything.

    Nothing is done where a watchdog on the board still watches over the settings: then somebody
    measures there, or it puts them back itself soon. `owner_is_gone`: it is known that nobody does
    (the caller holds the board's lease). Raises `SettingError` where something cannot be put back.
    """
    board = SettingsBoard(transport, workspace, 60.0, root, lasting)
    if board.raw_record() is None:
        return False
    if not owner_is_gone and board.is_watched():
        return False
    board.put_back()
    return True


def _put_back_after(board: SettingsBoard) -> Callable[[object, BaseException | None, object], None]:
    """What puts the settings back after the block; an error in the block is not hidden by ours."""

    def put_back(_: object, error: BaseException | None, __: object) -> None:
        try:
            _once_more(board.put_back)
        except BoardfitError as ours:
            if error is None:
                raise
            error.add_note(f"Besides, the board's settings could not be put back yet: {ours}")

    return put_back


def _once_more(ask: Callable[[], None]) -> None:
    """Ask a board for what can be asked twice, once more where the link is lost meanwhile."""
    try:
        ask()
    except (DeviceLost, DeviceTimeout):
        ask()


@contextlib.contextmanager
def _beating(state: Applied, every: float) -> Iterator[None]:
    """A thread that tells the board that we live, until the block is left."""
    stop = threading.Event()

    def beat() -> None:
        while True:
            # A lost link is told by whoever measures over it; the board knows what to do.
            with contextlib.suppress(BoardfitError):
                state.beat()
            if stop.wait(every):
                return

    thread = threading.Thread(target=beat, name="boardfit heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_JOIN)
