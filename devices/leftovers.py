"""What an earlier job left running on a board: ended by whoever holds the board now.

A worker ends when its host does, since nothing comes any more. One that hangs, or was stopped, does
not notice; it keeps its memory, and perhaps a core, beside what is measured next.
"""

from __future__ import annotations

from .base import Device

_TIMEOUT = 20.0  # seconds
# What a board runs for us lies in these folders and files of its workspace.
_END = """
for file in $(grep -lsF -e "$1/worker-" -e "$1/driver-" -e "$1/benchmark-" /proc/[0-9]*/cmdline)
do
  process=${file#/proc/}
  kill -9 "${process%/cmdline}" 2>/dev/null
done
true
"""


def end_leftovers(device: Device) -> None:
    """End workers and tools that run out of a board's workspace; its lease has to be held.

    Nothing is done on this machine, where others of this user's processes may have their own lease.
    Raises what the board raises.
    """
    if device.kind in {"ssh", "adb"}:
        script = ["sh", "-c", _END, "sh", str(device.workspace)]
        device.transport.run(script, timeout=_TIMEOUT)
