"""Builds to measure: a lock and a spec of the fast engine, a build in a process of its own, and who its processes are.

    python benchmarks/small_builds.py LOCK OUT WORKERS [section.field=value ...]

makes one, as the scripts beside this one start it, and prints its progress as lines of JSON.
"""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Self

import psutil

from randscene.generator import generate
from randscene.generator.build_driver import Progress
from randscene.manifests import DatasetSpec, build_lock, load_spec, with_overrides

KINDS = ("driver", "actor", "packer", "renderer", "ray")
"""`ray` is what Ray runs beside ours: its scheduler, its tables, and workers that are nobody's yet."""
RAY_CAST = (
    "render.engine=raycast",
    "latents.encoder=null",
    "splits.val.scenes=0",
    "splits.val.held_out_assets=false",
    "assets.held_out_fraction=0",
)
"""No Blender, no torch, one split."""


def small_lock(folder: Path, assets: int = 40) -> Path:
    """A lock of procedural assets in `folder`."""
    path = folder / "assets.lock.jsonl"
    build_lock("procedural", count=assets, out=path, workers=1)
    return path


def small_spec(assignments: Sequence[str]) -> DatasetSpec:
    """The `demo` preset with some fields changed."""
    return with_overrides(load_spec("demo"), list(assignments))


def start(
    lock: Path, out: Path, workers: int, assignments: Sequence[str], *, words: IO[str] | None = None
) -> subprocess.Popen[str]:
    """Start a build in a process group of its own; its progress comes from its `stdout`, line by line. Where `words` is
    a file, all that it says goes there instead."""
    command = [sys.executable, __file__, str(lock), str(out), str(workers), *assignments]
    stdout, stderr = (subprocess.PIPE, None) if words is None else (words, words)
    return subprocess.Popen(command, start_new_session=True, stdout=stdout, stderr=stderr, text=True)


def kind_of(process: psutil.Process, driver: int) -> str:
    """One of `KINDS`. Raises psutil.NoSuchProcess where it has gone."""
    if process.pid == driver:
        return "driver"
    command = " ".join(process.cmdline())
    if command.startswith("ray::SceneActor"):
        return "actor"
    if command.startswith("ray::BlockPacker"):
        return "packer"
    return "renderer" if "randscene.blender_scripts.worker" in command else "ray"


def processes(driver: int) -> Iterator[tuple[str, psutil.Process]]:
    """Kind and handle of every process of the build that `driver` leads, itself included."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(driver)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                yield kind_of(process, driver), process


class ProcessorTime:
    """Processor seconds of a build by kind. Nobody keeps the account of a worker that Ray has ended: so look every
    second, and remember.

    Use it as a context in the driver; what looking costs is not counted.
    """

    def __init__(self) -> None:
        self._spent: dict[tuple[int, float], tuple[str, float]] = {}
        self._looking = 0.0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def by_kind(self) -> dict[str, float]:
        """Seconds so far."""
        self._look()
        with self._lock:
            sums = dict.fromkeys(KINDS, 0.0)
            for kind, seconds in self._spent.values():
                sums[kind] += seconds
            sums["driver"] -= self._looking
            return sums

    def _keep_looking(self) -> None:
        while not self._ended.wait(1.0):
            self._look()

    def _look(self) -> None:
        with self._lock:
            begun = time.thread_time()
            for kind, process in processes(os.getpid()):
                with contextlib.suppress(psutil.NoSuchProcess):
                    times, key = process.cpu_times(), (process.pid, process.create_time())
                    known = self._spent.get(key, (kind, 0.0))[0]
                    # A worker keeps the kind that it was once seen as.
                    self._spent[key] = (known if kind == "ray" else kind, times.user + times.system)
            self._looking += time.thread_time() - begun


def promised_bytes(root: Path) -> dict[str, str]:
    """SHA-256 of every file that a second build must reproduce."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in ("failures.jsonl", "progress.jsonl", ".build.lock")
    }


@contextlib.contextmanager
def folder_for(place: Path | None) -> Iterator[Path]:
    """The folder `place`, made if need be, or a temporary one."""
    if place is not None:
        place.mkdir(parents=True, exist_ok=True)
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="randscene-benchmark-") as folder:
        yield Path(folder)


def main() -> None:
    lock, out, workers, *assignments = sys.argv[1:]

    def tell(state: Progress) -> None:
        print(json.dumps(asdict(state)), flush=True)

    report = generate(small_spec(assignments), lock, out, workers=int(workers), progress=tell)
    if not report.complete:
        raise SystemExit(f"{len(report.given_up)} scenes were given up")


if __name__ == "__main__":
    main()
