"""Several processes on one training: the same gradients as one, and no end without a word."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from boardfit.devices.errors import InputError
from boardfit.search.ranks import Ranks

from .train_on_ranks import STEPS, train

SCRIPT = Path(__file__).with_name("train_on_ranks.py")


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


def torchrun(folder: Path) -> subprocess.CompletedProcess[str]:
    """Two processes that find each other through a free port of this machine."""
    argv = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
        str(SCRIPT), str(folder),
    ]  # fmt: skip
    return subprocess.run(
        argv, env=ENVIRONMENT, capture_output=True, text=True, timeout=240, check=False
    )


def one_of_two_dies(folder: Path, step: int) -> tuple[int, str]:
    """What the other one ends with, and says. Without torchrun, which would end it first."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = str(place.getsockname()[1])
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder), str(step)],
            env={
                **ENVIRONMENT, "WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank,
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]  # fmt: skip
    (_, words), _ = (process.communicate(timeout=240) for process in processes)
    return processes[0].returncode, words


def saved(path: Path) -> list[torch.Tensor]:
    content = torch.load(path, weights_only=True)
    return list(content.values()) if isinstance(content, dict) else content


def test_two_processes_train_like_one_that_adds_up_their_halves_also_after_a_loss(
    tmp_path: Path,
) -> None:
    """Gradients of every step; and the run in which a process died ends with the same bits."""
    alone, lost = tmp_path / "alone", tmp_path / "lost"
    for folder in (alone, lost):
        folder.mkdir()
    train(Ranks(), alone, accumulation=2)
    code, words = one_of_two_dies(lost, 2)
    assert code == 1
    assert "RankLost: another process of this training ended" in words
    assert "Run the same command again" in words
    continued = torchrun(lost)
    assert continued.returncode == 0, continued.stderr
    assert "Grad strides" not in continued.stderr
    for step in range(1, STEPS + 1):
        ours = saved(alone / f"rank0of1-step{step}.pt")
        for rank in (0, 1):
            theirs = saved(lost / f"rank{rank}of2-step{step}.pt")
            assert len(theirs) == len(ours)
            for one, other in zip(ours, theirs, strict=True):
                torch.testing.assert_close(other, one, rtol=1e-6, atol=1e-6)
    first, second = (saved(lost / f"rank{rank}of2-weights.pt") for rank in (0, 1))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_rows_are_shared_equally_or_not_at_all() -> None:
    assert Ranks().rows(10) == slice(0, 10)
    assert [Ranks(rank, 4).rows(12) for rank in range(4)] == [
        slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 12)
    ]  # fmt: skip
    with pytest.raises(InputError, match="choose a batch_size that is a multiple of 6"):
        Ranks(0, 3).rows(9, 2)


def test_a_process_alone_shares_with_nobody() -> None:
    ranks = Ranks()
    assert ranks.share(b"x") == b"x"
    assert ranks.share(None) is None
    assert ranks.agreed(lambda: (1, "a")) == (1, "a")
    with ranks.leading(), ranks.training({"train": "anything"}):
        assert ranks.busy
    assert not ranks.busy
