"""How the renderer process sits in the system: its channel, its lifetime, its share of the processors. No bpy."""

import contextlib
import ctypes
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from randscene.blender_scripts.protocol import Answer, encode

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Ask the kernel (Linux) to kill this process when its parent ends; end at once if it already has."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def exit_now(code: int) -> None:
    """End without running exit handlers: Blender's can block for ever."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class Channel:
    """JSON lines over what were standard input and output.

    The two descriptors are duplicated and put out of reach: whatever Blender prints to standard output goes to
    standard error instead. A thread reads requests; the end of the input means that the supervisor is gone or no
    longer wants this process, and ends it even in the middle of a render.
    """

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._input = os.fdopen(os.dup(0), "rb")
        self._output = os.dup(1)
        sys.stdout.flush()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(2, 1)
        threading.Thread(target=self._read, name="requests", daemon=True).start()

    def receive(self) -> bytes:
        """Wait for the next line."""
        return self._requests.get()

    def send(self, answer: Answer) -> None:
        """Write one answer; ends the process if nobody reads any more."""
        data = memoryview(encode(answer))
        try:
            while data:
                data = data[os.write(self._output, data) :]
        except BrokenPipeError:
            exit_now(0)

    def _read(self) -> None:
        for line in self._input:
            self._requests.put(line)
        exit_now(0)


@contextlib.contextmanager
def visible_processors(count: int) -> Iterator[None]:
    """Let libraries that are loaded inside see only `count` processors; afterwards all may be used again.

    Blender sizes its pool of helper threads by the processors that it sees at start. With more helpers than
    Cycles is told to use, the thread that waits for the render spins and burns one processor for nothing; and the
    size of the pool changes a few pixels (the ray tracing tree is built in another order), so that without this
    a picture would depend on how many processors the machine happens to have.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:count])
    try:
        yield
    finally:
        for task in Path("/proc/self/task").iterdir():
            # A thread may end between the listing and the call.
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), allowed)
