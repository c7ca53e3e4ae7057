"""The renderer process: `python -m randscene.blender_scripts.worker`, JSON lines in and out (see `protocol`)."""

import argparse
import faulthandler
import logging
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from randscene.blender_scripts import process_setup
from randscene.blender_scripts.protocol import (
    PROTOCOL_VERSION,
    Answer,
    DoneAnswer,
    ErrorAnswer,
    HelloAnswer,
    QuitRequest,
    RenderRequest,
    ViewAnswer,
    job_of,
    parse_request,
)
from randscene.blender_scripts.scene_description import scene_description
from randscene.errors import RenderError

if TYPE_CHECKING:
    from randscene.blender_scripts.cycles_engine import Picture
    from randscene.blender_scripts.scene_builder import BuiltScene, SceneBuilder
    from randscene.blender_scripts.scene_description import Viewpoint

NO_BLENDER = 3
"""Exit status when bpy cannot be imported."""


CARD_ENGINES = {"cycles": "cycles card"}
"""What renders in place of an engine when a graphics card is asked for."""


class Engine(Protocol):
    """What a renderer asks of an engine."""

    def prepare(self, scene: Any, *, resolution: int, samples: int, threads: int, device: str) -> None: ...

    def render(self, built: "BuiltScene", viewpoint: "Viewpoint", *, layers: bool) -> "Picture": ...


class Renderer:
    """Answers render requests, one after the other.

    Parameters
    ----------
    builder : SceneBuilder
    engines : mapping
        By name, what makes an engine when it is first asked for.
    """

    def __init__(self, builder: "SceneBuilder", engines: Mapping[str, Callable[[], Engine]]) -> None:
        self._builder = builder
        self._makers = engines
        self._engines: dict[str, Engine] = {}

    def render(self, request: RenderRequest) -> Iterator[Answer]:
        """Render a job; one answer a view, then `done`.

        Raises
        ------
        RenderError
            With the reason why the job cannot be done; nothing of it stays behind in the scene.
        """
        start = time.perf_counter()
        description = scene_description(request.recipe)
        out = _output_folder(request)
        for view in request.views:
            if not 0 <= view < len(description.viewpoints):
                raise RenderError("bad_request", f"view {view}: the recipe has {len(description.viewpoints)} cameras")
        name = CARD_ENGINES.get(request.engine, request.engine) if request.device != "CPU" else request.engine
        if name not in self._engines:
            self._engines[name] = self._makers[name]()
        engine = self._engines[name]
        try:
            built = self._builder.build(description, request.assets, request.up_axes, request.images)
            engine.prepare(
                built.scene,
                resolution=request.resolution,
                samples=request.samples,
                threads=request.threads,
                device=request.device,
            )
            build_seconds = time.perf_counter() - start
            for view in request.views:
                start, cpu_start = time.perf_counter(), time.process_time()
                picture = engine.render(built, description.viewpoints[view], layers=request.layers)
                layers = picture.layers
                yield ViewAnswer(
                    job=request.job,
                    view=view,
                    rgb="" if picture.rgb is None else _save(out / f"{view:03d}.rgb.npy", picture.rgb),
                    ids="" if picture.ids is None else _save(out / f"{view:03d}.ids.npy", picture.ids),
                    seconds=time.perf_counter() - start,
                    cpu_seconds=time.process_time() - cpu_start,
                    layers="" if layers is None else _save(out / f"{view:03d}.layers.npy", layers.stacked()),
                    window=() if layers is None else layers.window.rows_and_columns(request.resolution),
                )
        finally:
            self._builder.clear()
        yield DoneAnswer(job=request.job, build_seconds=build_seconds)


def serve(channel: process_setup.Channel, renderer: Renderer) -> None:
    """Answer requests until told to quit. A request that fails is answered with its reason."""
    while True:
        line = channel.receive()
        try:
            request = parse_request(line)
            if isinstance(request, QuitRequest):
                return
            for answer in renderer.render(request):
                channel.send(answer)
        except RenderError as error:
            channel.send(ErrorAnswer(job=job_of(line), reason=error.reason, message=str(error)))
        except Exception as error:
            # A fault of this program: the supervisor replaces a process that answers so.
            traceback.print_exc()
            message = f"{type(error).__name__}: {error}"
            channel.send(ErrorAnswer(job=job_of(line), reason="worker_error", message=message))


def main() -> None:
    """Start Blender, say hello, serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parent", type=int, required=True, help="process id of the supervisor: end when it ends")
    parser.add_argument("--threads", type=int, default=1, help="threads that renders will ask for")
    arguments = parser.parse_args()
    process_setup.die_with_parent(arguments.parent)
    faulthandler.enable()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    channel = process_setup.Channel()
    try:
        with process_setup.visible_processors(arguments.threads):
            import bpy
    except ImportError as error:
        channel.send(ErrorAnswer(job="", reason="blender_import_failed", message=str(error)))
        process_setup.exit_now(NO_BLENDER)
    from randscene.blender_scripts.compat import blender_version
    from randscene.blender_scripts.cycles_card_engine import CyclesCardEngine
    from randscene.blender_scripts.cycles_engine import CyclesEngine
    from randscene.blender_scripts.devices import cycles_devices
    from randscene.blender_scripts.eevee_engine import EeveeEngine
    from randscene.blender_scripts.scene_builder import SceneBuilder

    # Importers log warnings and worse, not every file that they read.
    bpy.app.debug_value = 1
    renderer = Renderer(SceneBuilder(), {"cycles": CyclesEngine, "cycles card": CyclesCardEngine, "eevee": EeveeEngine})
    channel.send(
        HelloAnswer(
            bpy=blender_version(),
            python=platform.python_version(),
            protocol=PROTOCOL_VERSION,
            devices=cycles_devices(),
        )
    )
    serve(channel, renderer)
    process_setup.exit_now(0)


def _output_folder(request: RenderRequest) -> Path:
    out = Path(request.out)
    if not out.is_absolute() or not out.is_dir():
        raise RenderError("bad_request", f"out: {out} is not the absolute path of a folder")
    return out


def _save(path: Path, array: NDArray[Any]) -> str:
    """Write an npy file that appears whole under its name; returns the path."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as handle:
        np.save(handle, array, allow_pickle=False)
    os.replace(temporary, path)
    return str(path)


if __name__ == "__main__":
    main()
