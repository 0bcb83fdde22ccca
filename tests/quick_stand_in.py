"""The stand-in for `benchmark_model` that starts in milliseconds, as the tool itself does.

One process has Python and LiteRT loaded and waits at a socket; the program that is pushed to a
board asks it to fork, on the cores and with the output of whoever called. What runs then is
`stand_in_benchmark_model.py`, as it is.

    with quick_program(folder) as program: ...       # give it as benchmark_model
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # where it runs as a program

from tests import stand_in_benchmark_model

_CLIENT = """\
#!{python} -IS
import _socket, os, sys
link = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
link.connect({address!r})
words = [os.getcwd(), ",".join(map(str, os.sched_getaffinity(0))), *sys.argv[1:]]
files = b"".join(number.to_bytes(4, sys.byteorder) for number in (1, 2))
rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)]
link.sendmsg(["\\0".join(words).encode()], rights)
os._exit(int.from_bytes(link.recv(1), "big"))
"""
_LONGEST = 64 * 1024  # bytes of what a caller says


@contextlib.contextmanager
def quick_program(folder: Path) -> Iterator[Path]:
    """A program that measures as the stand-in does, for as long as the context lasts."""
    address = str(folder / "stand-in.socket")
    program = folder / "benchmark_model"
    program.write_text(_CLIENT.format(python=sys.executable, address=address))
    program.chmod(0o755)
    with subprocess.Popen(
        [sys.executable, __file__, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if process.stdout.readline() != b"ready\n":
                raise RuntimeError("the stand-in for benchmark_model has not started")
            yield program
        finally:
            process.stdin.close()  # it ends with whoever began it, however that ends
            process.wait(10)


def _serve(address: str) -> None:
    import ai_edge_litert.interpreter

    assert ai_edge_litert.interpreter  # loaded now, for all that are forked
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([listening, sys.stdin], [], [])
            if sys.stdin in ready:
                return
            with listening.accept()[0] as caller:
                words, files, _, _ = socket.recv_fds(caller, _LONGEST, 2)
                child = os.fork()
                if child == 0:
                    _run(words.decode().split("\0"), files)
                for file in files:
                    os.close(file)
                code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                with contextlib.suppress(OSError):  # whoever was killed waits for nothing
                    caller.send(bytes([code if code >= 0 else 128 - code]))


def _run(words: list[str], files: list[int]) -> None:
    """Be the program that was called."""
    folder, cores, *arguments = words
    code = 1
    try:
        os.chdir(folder)
        os.sched_setaffinity(0, map(int, cores.split(",")))
        for number, file in enumerate(files, start=1):
            os.dup2(file, number)
        sys.argv[1:] = arguments
        code = stand_in_benchmark_model.main()
        sys.stdout.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1])
