"""Child processes for work that may crash, hang or eat all memory, as reading a mesh file from anywhere may.

The children run `randscene.manifests.asset_worker`; tasks and answers are lines of JSON. A child that dies or runs out
of time is replaced, and its task ends with a typed reason.
"""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Self

from randscene.errors import RandsceneError
from randscene.extras import install_command
from randscene.files import explain_os_errors

START_TIMEOUT_S = 120.0
"""How long a child may take to start and import its libraries."""
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


class GuardedWorkers:
    """A pool of child processes, each with a time limit a task and a memory limit.

    Use as a context manager; leaving it ends every child.

    Parameters
    ----------
    workers : int
        Number of children.
    timeout_s : float
        Seconds that one task may take.
    memory_bytes : int
        Address space that a child may take beyond what it has once its libraries are loaded (Linux only).
    """

    def __init__(self, workers: int, *, timeout_s: float, memory_bytes: int) -> None:
        if workers < 1:
            raise RandsceneError(f"workers must be at least 1, not {workers}")
        self._workers = workers
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._children: list[_Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for child in self._children:
            child.end()
        self._children.clear()

    def run(self, tasks: Iterable[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Carry out the tasks; yields (position, answer) in order of completion.

        An answer holds `status`; when the child could not give one itself, `status` is `crashed` or `timeout`
        and `message` says more.

        Raises
        ------
        RandsceneError
            If a child ends by itself before it can take a task (its libraries are not as they must be), or the disk for
            temporary files is full.
        """
        waiting = enumerate(tasks)
        with selectors.DefaultSelector() as selector:
            for _ in range(self._workers):
                if not self._start(waiting, selector):
                    break
            while selector.get_map():
                busy: list[_Child] = [key.data for key in selector.get_map().values()]
                patience = max(0.0, min(child.deadline for child in busy) - time.monotonic())
                selector.select(timeout=patience)
                for child in busy:
                    answer = child.poll()
                    if answer is None:
                        continue
                    position = child.position
                    if child.alive and (task := next(waiting, None)) is not None:
                        child.give(*task)
                    else:
                        selector.unregister(child.output)
                        child.end()
                        self._children.remove(child)
                        self._start(waiting, selector)
                    yield position, answer

    def _start(self, waiting: Iterator[tuple[int, dict[str, Any]]], selector: selectors.BaseSelector) -> bool:
        task = next(waiting, None)
        if task is None:
            return False
        child = _Child(self._timeout_s, self._memory_bytes)
        self._children.append(child)
        selector.register(child.output, selectors.EVENT_READ, child)
        child.give(*task)
        return True


class _Child:
    """One child process and the task that it has in hand."""

    def __init__(self, timeout_s: float, memory_bytes: int) -> None:
        self._timeout_s = timeout_s
        with explain_os_errors("temporary files"):
            self._errors: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `end`)
            # A killed child cannot tidy up what it, or Blender for it, has begun to write.
            self._scratch = tempfile.TemporaryDirectory(prefix="randscene-worker-", ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "randscene.manifests.asset_worker", str(memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **_ONE_THREAD, "TMPDIR": self._scratch.name},
            start_new_session=True,  # Ctrl-C is the parent's business
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._input, self.output = self._process.stdin, self._process.stdout
        os.set_blocking(self.output.fileno(), False)
        self._buffer = b""
        self._ready = False
        self.alive = True
        self.position = -1
        self.deadline = time.monotonic() + START_TIMEOUT_S

    def give(self, position: int, task: dict[str, Any]) -> None:
        """Hand over a task; the clock starts once the child is ready."""
        self.position = position
        if self._ready:
            self.deadline = time.monotonic() + self._timeout_s
        with contextlib.suppress(BrokenPipeError):  # a dead child: `poll` finds its end of file and answers for it
            self._input.write(json.dumps(task).encode() + b"\n")
            self._input.flush()

    def poll(self) -> dict[str, Any] | None:
        """The answer to the task in hand, or None while there is none and there is time left."""
        while chunk := self.output.read(1 << 16):
            self._buffer += chunk
        ended = chunk == b""
        while b"\n" in self._buffer:
            line, self._buffer = self._buffer.split(b"\n", 1)
            if self._ready:
                answer: dict[str, Any] = json.loads(line)
                return answer
            self._ready = True
            self.deadline = time.monotonic() + self._timeout_s
        if ended:
            self.alive = False
            code = self._process.wait()
            if code > 0 and not self._ready:
                raise RandsceneError(
                    f"the processes that read meshes do not start{self._last_words()}; is everything installed that "
                    f"they need? {install_command('generate')}"
                )
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            return {"status": "crashed", "message": f"the process that read it died ({how}){self._last_words()}"}
        if time.monotonic() >= self.deadline:
            self.alive = False
            return {"status": "timeout", "message": f"not done within {self._timeout_s:g} s"}
        return None

    def end(self) -> None:
        """Kill the child, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for stream in (self._input, self.output, self._errors):
            with contextlib.suppress(BrokenPipeError):  # unsent bytes of a task for a dead child
                stream.close()
        self._scratch.cleanup()

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read()[-2000:].decode(errors="replace").strip().splitlines()
        return f": {lines[-1][:200]}" if lines else ""
