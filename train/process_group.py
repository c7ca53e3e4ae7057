"""One process, or one of several under torchrun: the same few calls serve both."""

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor
from torch import distributed as dist

from randscene.errors import RandsceneError
from randscene.train.devices import choose_device


@dataclass(frozen=True, kw_only=True)
class ProcessGroup:
    """This process's place among all of the run's."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes checkpoints and logs."""
        return self.rank == 0

    @property
    def device_name(self) -> str:
        """The GPU's name, or `CPU`."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"

    def sum(self, values: list[float]) -> list[float]:
        """Element-wise sum over all processes; every process must call it."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def sum_in_place(self, tensor: Tensor) -> None:
        """Element-wise sum over all processes; every process must call it. Nothing waits for a GPU."""
        if self.size > 1:
            dist.all_reduce(tensor)

    def broadcast_in_place(self, tensor: Tensor) -> None:
        """The main process's values for all; every process must call it."""
        if self.size > 1:
            dist.broadcast(tensor, src=0)

    def any(self, value: bool) -> bool:
        """Whether it is true in any process; every process must call it."""
        return value if self.size == 1 else self.sum([float(value)])[0] > 0

    def wait_for_all(self) -> None:
        """Return once every process has come here."""
        if self.size > 1:
            dist.barrier()


_TORCHRUN = (("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0"))


@contextlib.contextmanager
def joined_process_group(device: str | None = None) -> Iterator[ProcessGroup]:
    """Join torchrun's processes (gloo on CPUs, NCCL on CUDA), or be alone when started plainly.

    Parameters
    ----------
    device : str, optional
        `cpu` or `cuda`; CUDA where there is one by default. Each process takes the device of its local rank.

    Raises
    ------
    SpecError
        If there is no such device.
    """
    size, rank, local = (int(os.environ.get(name, default)) for name, default in _TORCHRUN)
    place = choose_device(device)
    if place.type == "cuda":
        place = place if place.index is not None else torch.device("cuda", local)
        torch.cuda.set_device(place)
    if size == 1:
        yield ProcessGroup(rank=0, size=1, device=place)
        return
    if dist.is_initialized():  # by a caller that trains several runs, who also leaves the group
        yield ProcessGroup(rank=rank, size=size, device=place)
        return
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield ProcessGroup(rank=rank, size=size, device=place)
    finally:
        dist.destroy_process_group()


_GONE = re.compile(
    r"connection (?:closed|reset|refused)|broken pipe|timed out waiting|socket timeout|remote error|nccl", re.IGNORECASE
)
"""What backends say when another process can no longer be reached; gloo has no exception of its own."""


@contextlib.contextmanager
def explain_lost_processes(run: Path) -> Iterator[None]:
    """Turn the errors of an exchange with a process that has ended into one clear line.

    Raises
    ------
    RandsceneError
        Naming the run that can go on.
    """
    try:
        yield
    except RuntimeError as error:
        exchanged = isinstance(error, dist.DistError) or (dist.is_initialized() and _GONE.search(str(error)))
        if not exchanged or isinstance(error, torch.OutOfMemoryError):
            raise
        raise RandsceneError(
            f"another process of this run ended or cannot be reached (its own message says why): {run} is as its last "
            "checkpoint left it; start the same command again to go on"
        ) from error


ONE_SIGNAL_S = 2.0
"""Signals within so long are one: a job's runner and its process group may both pass it on."""


class StopRequest:
    """Whether SIGINT or SIGTERM has come; another, more than `ONE_SIGNAL_S` after the first, interrupts at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._at = 0.0

    def __bool__(self) -> bool:
        return self.signal is not None

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._at = number, now
        elif now - self._at > ONE_SIGNAL_S:
            raise KeyboardInterrupt


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Let SIGINT and SIGTERM set a flag while inside, so that a step is finished and saved before the end.

    Outside the main thread Python allows no handlers: the flag then never rises.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, request._note) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def deterministic_kernels(wanted: bool) -> Iterator[None]:
    """Use deterministic kernels only while inside, if `wanted`; then restore what was set."""
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
