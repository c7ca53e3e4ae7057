"""Supervise a renderer process: start it, feed it, read its pictures, and end it when it hangs, swells or dies."""

import contextlib
import dataclasses
import math
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from randscene.blender_scripts.protocol import (
    PROTOCOL_VERSION,
    Answer,
    DoneAnswer,
    ErrorAnswer,
    HelloAnswer,
    QuitRequest,
    RenderRequest,
    Request,
    ViewAnswer,
    encode,
    parse_answer,
)
from randscene.errors import RenderError
from randscene.extras import install_command
from randscene.generator.child_process import ChildProcess
from randscene.generator.recipe import SceneRecipe
from randscene.generator.rendered_view import RenderedView, read_view

WORKER = (sys.executable, "-P", "-m", "randscene.blender_scripts.worker")
"""The renderer; `-P`: a file in the current folder must not pass for a module of ours."""

SYSTEM_LIBRARIES = "libxrender1 libxfixes3 libxi6 libxkbcommon0 libsm6 libgl1"
"""Debian packages that Blender needs on a bare system."""

INSTALLATION_REASONS = frozenset(
    {"missing_library", "blender_missing", "engine_missing", "device_missing", "denoiser_missing"}
)
"""Reasons of a RenderError that no other recipe and no second try can mend."""

START_TIMEOUT_S = 180.0
"""Blender starts in a second; the first time from a cold network disk it can take minutes."""

QUIT_TIMEOUT_S = 2.0
"""How long a renderer may take to end when asked to; Blender's exit handlers can block for ever."""

MEMORY_POLL_S = 0.25

KERNEL_BUILD = (
    "; for a card that Blender has no kernels for (H100, H200) they are built before the first picture, which takes "
    "longer than that: docs/rendering.md says how to build them once"
)
"""Said of a card that gave no picture in time: nothing else tells of that build."""


class BlenderProcess:
    """A renderer process that is started when needed and replaced after a death. Not for several threads at once.

    Parameters
    ----------
    threads : int
        Render threads. Pictures are the same to the bit for the same number of threads, not always across numbers:
        leave it at 1 and run more processes where that matters.
    view_timeout_s : float
        Longest wait for one answer. The first view of a scene includes importing its assets.
    scene_timeout_s : float, optional
        Longest wait for all answers of a scene together; time that the caller takes between them does not count.
    memory_limit_bytes : int, optional
        Resident memory above which the process is ended. None: no limit.
    recycle_scenes : int, optional
        Scenes after which a fresh process takes over. None: never.
    scratch : path, optional
        Folder for pictures on their way; by default the system's for temporary files.
    command : sequence of str, optional
        Program to run in place of the real worker.

    Examples
    --------
    >>> with BlenderProcess(threads=2) as blender:
    ...     for picture in blender.render(recipe, paths, range(12), resolution=256, samples=16):
    ...         ...
    """

    def __init__(
        self,
        threads: int = 1,
        view_timeout_s: float = 300.0,
        scene_timeout_s: float | None = None,
        memory_limit_bytes: int | None = None,
        recycle_scenes: int | None = None,
        scratch: str | os.PathLike[str] | None = None,
        *,
        command: Sequence[str] = WORKER,
    ) -> None:
        self._threads = threads
        self._view_timeout_s = view_timeout_s
        self._scene_timeout_s = math.inf if scene_timeout_s is None else scene_timeout_s
        self._memory_limit = memory_limit_bytes
        self._recycle_scenes = recycle_scenes
        self._scratch_parent = scratch
        self._command = tuple(command)
        self._child: ChildProcess | None = None
        self._hello: HelloAnswer | None = None
        self._jobs = 0
        self._busy = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Process id of the renderer, or None when none runs."""
        return self._child.pid if self._child is not None and self._child.alive() else None

    @property
    def hello(self) -> HelloAnswer:
        """Versions and devices of the renderer. Starts it if none runs."""
        if self._hello is None or self.pid is None:
            self.start()
        assert self._hello is not None
        return self._hello

    def start(self) -> None:
        """Start the renderer unless one runs, and wait until it is ready.

        Raises
        ------
        RenderError
            `missing_library` or `blender_missing` if Blender cannot be loaded, `timeout` or `worker_died` (both
            transient) if it does not get as far as saying hello.
        """
        if self._child is not None and self._child.alive() and not self._busy:
            return
        self._drop()
        child = self._child = ChildProcess(self._command, self._threads, self._scratch_parent)
        self._busy = True
        answer = self._receive(child, START_TIMEOUT_S, "to start")
        if isinstance(answer, ErrorAnswer):
            raise self._kill(child, _cannot_load(answer.message))
        if not isinstance(answer, HelloAnswer) or answer.protocol != PROTOCOL_VERSION:
            raise self._kill(
                child, RenderError("bad_answer", "the renderer is of another version: reinstall randscene")
            )
        self._hello = answer
        self._busy = False

    def render(
        self,
        recipe: SceneRecipe,
        asset_paths: Mapping[str, str | os.PathLike[str]],
        views: Iterable[int],
        *,
        resolution: int,
        samples: int,
        engine: str = "cycles",
        device: str = "CPU",
        up_axes: Mapping[str, str] | None = None,
        images: Mapping[str, str] | None = None,
        layers: bool = False,
    ) -> Iterator[RenderedView]:
        """Render some views of a scene; each is handed over as soon as it is there.

        Leaving the iterator before its end ends the renderer; the next call starts another.

        Parameters
        ----------
        recipe : SceneRecipe
        asset_paths : mapping
            File of each uid in the recipe.
        views : iterable of int
            Indices into `recipe.cameras`.
        resolution : int
            Side of the picture, pixels.
        samples : int
            Paths a pixel before denoising (Cycles), or shifts within the pixel (EEVEE).
        engine, device : str
            A key of `protocol.ENGINE_DEVICES` and one of its values.
        up_axes : mapping, optional
            `Y` or `Z` of the files of some uids, where it is not their format's usual one.
        images : mapping, optional
            Absolute path of the file of each SHA-256 that the recipe's background names.
        layers : bool
            Hand over what pictures are made from in place of pictures (`cycles` only).

        Raises
        ------
        RenderError
            With `transient=True`: `worker_died`, `timeout`, `memory_limit` (unless a fresh process exceeded it).
            `engine_missing` or `device_missing` if this machine lacks what was asked for.
            Otherwise the recipe or an asset is at fault: `import_failed`, `no_geometry`, `bad_request`, ...
        """
        wanted = list(dict.fromkeys(views))
        if not wanted:
            return
        if self._child is not None and self._child.jobs_begun == self._recycle_scenes:
            self.close()
        self.start()
        child = self._child
        assert child is not None
        self._busy = True
        child.jobs_begun += 1
        self._jobs += 1
        job, out = str(self._jobs), Path(tempfile.mkdtemp(dir=child.scratch))
        request = RenderRequest(
            job=job,
            recipe=dataclasses.asdict(recipe),
            assets={uid: str(Path(path).absolute()) for uid, path in asset_paths.items()},
            views=tuple(wanted),
            resolution=resolution,
            samples=samples,
            threads=self._threads,
            out=str(out),
            engine=engine,
            device=device,
            up_axes=dict(up_axes or {}),
            images=dict(images or {}),
            layers=layers,
        )
        try:
            self._send(child, request)
            yield from self._pictures(child, request, wanted)
            self._busy = False
        finally:
            shutil.rmtree(out, ignore_errors=True)
            # Whoever left half way may do so late, when another process already serves.
            if self._busy and self._child is child:
                self._drop()

    def close(self) -> None:
        """End the renderer and remove its scratch files. The object can be used again."""
        if self._child is not None and not self._busy:
            with contextlib.suppress(OSError):
                self._child.write(encode(QuitRequest()), QUIT_TIMEOUT_S)
            self._child.wait(QUIT_TIMEOUT_S)
        self._drop()

    def _pictures(self, child: ChildProcess, request: RenderRequest, wanted: list[int]) -> Iterator[RenderedView]:
        job, out = request.job, Path(request.out)
        left = set(wanted)
        waited = 0.0
        while True:
            begun = time.monotonic()
            first = child.jobs_begun == 1 and len(left) == len(wanted)
            hint = KERNEL_BUILD if first and request.engine == "cycles" and request.device != "CPU" else ""
            if self._scene_timeout_s - waited < self._view_timeout_s:
                words = f"for a scene of {len(wanted)} views, of which {len(wanted) - len(left)} came"
                answer = self._receive(child, self._scene_timeout_s - waited, words, self._scene_timeout_s, hint)
            else:
                answer = self._receive(child, self._view_timeout_s, f"for one of {len(left)} views", hint=hint)
            waited += time.monotonic() - begun
            if isinstance(answer, ErrorAnswer):
                error = RenderError(answer.reason, answer.message, log_tail=child.log.tail())
                if answer.reason == "worker_error":
                    raise self._kill(child, error)
                self._busy = False
                raise error
            if isinstance(answer, ViewAnswer) and answer.job == job and answer.view in left:
                left.remove(answer.view)
                try:
                    picture = read_view(answer, out, request.resolution)
                except RenderError as error:
                    raise self._kill(child, error) from error
                yield picture
            elif isinstance(answer, DoneAnswer) and answer.job == job and not left:
                return
            else:
                raise self._kill(child, RenderError("bad_answer", f"the renderer answered out of turn: {answer}"))

    def _send(self, child: ChildProcess, request: Request) -> None:
        try:
            child.write(encode(request), self._view_timeout_s)
        except TimeoutError as error:
            message = f"the renderer took no request for {self._view_timeout_s:g} s; ended it"
            raise self._kill(child, RenderError("timeout", message, transient=True)) from error
        except OSError as error:
            raise self._died(child) from error

    def _receive(
        self, child: ChildProcess, timeout_s: float, waiting_for: str, stated_s: float | None = None, hint: str = ""
    ) -> Answer:
        """Next answer; raises when it does not come, and then the process is gone.

        `stated_s` is what to call the wait where `timeout_s` is only the rest of it; `hint` ends the message then.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            if self._child is not child:
                raise RenderError("abandoned", "another render began before this one was read to its end")
            left = deadline - time.monotonic()
            if left <= 0:
                message = f"waited {stated_s or timeout_s:g} s {waiting_for}; ended the renderer{hint}"
                raise self._kill(child, RenderError("timeout", message, transient=True))
            try:
                line = child.read_line(left if self._memory_limit is None else min(left, MEMORY_POLL_S))
            except EOFError as error:
                raise self._died(child) from error
            if line is not None:
                try:
                    return parse_answer(line)
                except RenderError as error:
                    raise self._kill(child, error) from error
            if self._memory_limit is not None and child.resident_bytes() > self._memory_limit:
                raise self._kill(
                    child,
                    RenderError(
                        "memory_limit",
                        f"the renderer held more than {self._memory_limit / 2**30:.1f} GiB; ended it. Where the "
                        "machine has more to give, raise render.memory_limit_gib",
                        # What earlier scenes left behind may be to blame; a fresh process has no such excuse.
                        transient=child.jobs_begun > 1,
                    ),
                )

    def _died(self, child: ChildProcess) -> RenderError:
        status = child.wait(QUIT_TIMEOUT_S)
        if status is None:
            how = "closed its output"
        elif status < 0:
            how = f"was ended by signal {-status} ({signal.strsignal(-status)})"
        else:
            how = f"ended with status {status}"
        return self._kill(child, RenderError("worker_died", f"the renderer {how}", transient=True))

    def _kill(self, child: ChildProcess, error: RenderError) -> RenderError:
        """End the process; returns the error with its log."""
        child.kill()
        if self._child is child:
            self._drop()
        error.log_tail = child.log.tail()
        return error

    def _drop(self) -> None:
        if self._child is not None:
            self._child.kill()
        self._child, self._busy = None, False


def _cannot_load(message: str) -> RenderError:
    if "cannot open shared object file" in message:
        hint = f"apt-get install -y --no-install-recommends {SYSTEM_LIBRARIES}"
        return RenderError("missing_library", f"Blender lacks a system library ({message}); install them: {hint}")
    hint = f"on Python 3.11: {install_command('generate')}"
    return RenderError("blender_missing", f"Blender's Python module cannot be imported ({message}); {hint}")
