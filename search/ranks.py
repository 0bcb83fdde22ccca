"""Several processes that train one network: `torchrun --nproc_per_node N -m boardfit search ...`.

The first process (rank 0) searches, measures, and writes all files; the others wait for it to say
what is trained next, and take their part of every step. What is said travels as JSON, weights as a
checkpoint's bytes. Where one of them ends, torchrun ends the others, and each says so.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn

from ..devices.errors import BoardfitError, InputError

Found = TypeVar("Found")

STEP_TIMEOUT = timedelta(minutes=10)  # of one exchange within a step, before a process is lost
PATIENCE = timedelta(days=14)  # of a process that waits while the first searches and measures


class RankLost(BoardfitError):
    """Another process of the same training ended, or does not answer."""


@dataclass(eq=False)
class Ranks:
    """This process among the `count` of one training: its number, and that on its own machine.

    `waiting` is the group in which processes wait for one another for days; `None` where there is
    only one. `busy`: the first process said what is trained, and that has not come to its end.
    """

    rank: int = 0
    count: int = 1
    local: int = 0
    waiting: Any = None
    busy: bool = False

    @property
    def leads(self) -> bool:
        """Whether this process searches, measures and writes files."""
        return self.rank == 0

    def rows(self, batch_size: int, accumulation: int = 1) -> slice:
        """Which images of a batch this process takes. Raises `InputError` where they are not
        equally many for all."""
        if batch_size % (self.count * accumulation):
            raise InputError(
                f"a batch of {batch_size} images cannot be shared by {self.count} processes in "
                f"{accumulation} parts each; choose a batch_size that is a multiple of "
                f"{self.count * accumulation}"
            )
        part = batch_size // self.count
        return slice(self.rank * part, (self.rank + 1) * part)

    def share(self, data: bytes | None) -> bytes | None:
        """What the first process has; the others give nothing. `None` where that has nothing."""
        if self.count == 1:
            return data
        with lost_ranks():
            content = data or b""
            size = torch.tensor([-1 if data is None else len(content)])
            dist.broadcast(size, 0, group=self.waiting)
            if int(size) < 0:
                return None
            if not self.leads:
                content = bytes(int(size))
            buffer = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            if len(buffer):
                dist.broadcast(buffer, 0, group=self.waiting)
            return buffer.numpy().tobytes()

    @contextlib.contextmanager
    def training(self, message: Mapping[str, Any]) -> Iterator[None]:
        """Say to all others what is trained here; they train it too. Nothing where others said it.

        Where it fails nobody is told: the others are within a step, and see this process end.
        """
        if self.leads:
            self.share(json.dumps(message).encode())
            self.busy = True
        yield
        self.busy = False

    @contextlib.contextmanager
    def leading(self) -> Iterator[None]:
        """Do the first process's work, and send the others home however it ends."""
        try:
            yield
        finally:
            if not self.busy:
                self.share(b"{}")

    def agreed(self, find: Callable[[], Found]) -> Found:
        """What the first process finds, in all of them; it has to be the same as JSON."""
        if self.count == 1:
            return find()
        found = self.share(json.dumps(find()).encode() if self.leads else None)
        return cast(Found, json.loads(found or b"null"))

    def told(self) -> dict[str, Any]:
        """Wait for what the first process says."""
        message = self.share(None)
        return dict(json.loads(message or b"{}"))

    def equalise(self, module: nn.Module) -> None:
        """Give all processes the first one's weights and batch statistics."""
        if self.count == 1:
            return
        with lost_ranks(), torch.no_grad():
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, 0)


@contextlib.contextmanager
def joined_ranks(*, gpu: bool) -> Iterator[Ranks]:
    """Join the other processes that torchrun started, if it did: NCCL with GPUs, else Gloo.

    Raises `RankLost` where they do not come together.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Ranks()
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if gpu:
        torch.cuda.set_device(local)
    with lost_ranks():
        dist.init_process_group("nccl" if gpu else "gloo", timeout=STEP_TIMEOUT)
        waiting = dist.new_group(backend="gloo", timeout=PATIENCE)
    try:
        yield Ranks(dist.get_rank(), count, local, waiting)
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def lost_ranks() -> Iterator[None]:
    """Turn what Gloo and NCCL say when a process is gone into `RankLost`."""
    try:
        yield
    except RuntimeError as error:
        ours = isinstance(error, dist.DistError) or "gloo" in str(error).lower()
        if not ours:
            raise
        reason = str(error).strip().splitlines()[0].partition(". This is")[0]
        raise RankLost(
            f"another process of this training ended or does not answer ({reason}); what it said "
            "last is the cause. Run the same command again: it goes on from its checkpoint"
        ) from error
