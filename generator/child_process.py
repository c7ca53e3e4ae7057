"""A child process that is never leaked: its pipes, its log, its scratch folder, and its end."""

import collections
import contextlib
import fcntl
import os
import queue
import select
import selectors
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path

from randscene.errors import RenderError
from randscene.scratch_folder import ScratchFolder

TAIL_LINES = 60

PIPE_BYTES = 4096
"""Answers that wait to be read, some twenty: where they are not, the process waits instead of filling the disk."""

OUT_OF_MEMORY_SCORE = 500
"""Where memory runs out, Linux ends the process with the highest score first: rather a renderer than who feeds it."""


class Log:
    """The last lines that a process wrote to standard error."""

    def __init__(self) -> None:
        self._lines: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)
        self._status = ""

    def add(self, line: bytes) -> None:
        text = line[:500].decode(errors="replace").rstrip()
        # Blender writes dozens of progress lines a view; only the last one is of use.
        if text.startswith("Fra:"):
            self._status = text
        elif text:
            self._lines.append(text)

    def tail(self) -> str:
        """The lines, the last progress line at the end."""
        return "\n".join([*self._lines, *([self._status] if self._status else [])])


class ChildProcess:
    """One process with its pipes, log and scratch folder. `kill` may be called any number of times."""

    def __init__(self, command: Sequence[str], threads: int, scratch_parent: str | os.PathLike[str] | None) -> None:
        self.jobs_begun = 0
        self.log = Log()
        self._folder = ScratchFolder("randscene-blender-", scratch_parent)
        self._buffer = b""
        arguments = [*command, "--parent", str(os.getpid()), "--threads", str(threads)]
        started: _Started = queue.SimpleQueue()
        # The kernel kills the child when the thread that launched it ends, so that thread must outlive it.
        self._keeper = threading.Thread(
            target=_keep, args=(arguments, _environment(threads, str(self.scratch)), self.log, started), daemon=True
        )
        self._keeper.start()
        process = started.get()
        if isinstance(process, OSError):
            self._folder.remove()
            raise RenderError("blender_missing", f"cannot run {command[0]}: {process.strerror}") from process
        assert process.stdin is not None and process.stdout is not None
        self._process, self._input, self._output = process, process.stdin, process.stdout
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(self._output, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.set_blocking(self._input.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)
        self._end = weakref.finalize(self, _end, process, self._folder)

    @property
    def scratch(self) -> Path:
        """Folder for files of this process; it is removed with it."""
        return self._folder.path

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._end.alive and self._process.poll() is None

    def write(self, data: bytes, timeout_s: float) -> None:
        """Hand over bytes; OSError (TimeoutError when the process does not take them in time) if that fails."""
        deadline = time.monotonic() + timeout_s
        left = memoryview(data)
        room = select.poll()
        room.register(self._input, select.POLLOUT)
        while left:
            if not room.poll(1000 * max(deadline - time.monotonic(), 0)):
                raise TimeoutError
            left = left[os.write(self._input.fileno(), left) :]

    def read_line(self, timeout_s: float) -> bytes | None:
        """One line without its newline, or None if none comes in time; EOFError once there will be none."""
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            if not self._selector.select(max(deadline - time.monotonic(), 0)):
                return None
            data = os.read(self._output.fileno(), 1 << 16)
            if not data:
                raise EOFError
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    def resident_bytes(self) -> int:
        """Memory of the process; 0 where the system does not tell."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def wait(self, timeout_s: float) -> int | None:
        """Exit status (negative: minus the signal), or None if the process still runs."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        self._end()
        self._keeper.join(5.0)
        self._selector.close()
        for pipe in (self._input, self._output):
            # What could not be written to a dead process is of no use.
            with contextlib.suppress(OSError):
                pipe.close()


_Started = queue.SimpleQueue[subprocess.Popen[bytes] | OSError]


def _keep(arguments: list[str], environment: dict[str, str], log: Log, started: _Started) -> None:
    """Launch a process and hand it over; once it has ended, end whatever it has started itself."""
    try:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        started.put(error)
        return
    with contextlib.suppress(OSError):
        Path(f"/proc/{process.pid}/oom_score_adj").write_text(str(OUT_OF_MEMORY_SCORE))
    reader = threading.Thread(target=_read_log, args=(process, log), daemon=True)
    reader.start()
    started.put(process)
    process.wait()
    # At once, while no other process can have come by the number of this group.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    reader.join()


def _read_log(process: subprocess.Popen[bytes], log: Log) -> None:
    assert process.stderr is not None
    with process.stderr as pipe:
        for line in pipe:
            log.add(line)


def _environment(threads: int, scratch: str) -> dict[str, str]:
    count = str(threads)
    return {
        **os.environ,
        "OMP_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        # Nobody's own Blender settings or add-ons, and no folders of Blender's that outlive it.
        "BLENDER_USER_RESOURCES": scratch,
        **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), scratch),
    }


def _end(process: subprocess.Popen[bytes], folder: ScratchFolder) -> None:
    """Kill the whole session of a child, reap it and remove its scratch folder."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    folder.remove()
