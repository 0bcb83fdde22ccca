"""Another job that wants the same board: a thread has leases of its own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable


def on_a_thread(work: Callable[[], object]) -> None:
    """Do it in a thread, as another job of this process; raise what it raises."""
    found: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # handed to whoever waits
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    if found:
        raise found[0]


def entered_elsewhere(
    context: contextlib.AbstractContextManager[object],
) -> contextlib.ExitStack:
    """Enter it as another job; whoever closes what is returned leaves it."""
    stack = contextlib.ExitStack()
    on_a_thread(lambda: stack.enter_context(context))
    return stack
