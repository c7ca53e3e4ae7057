"""Inspection: what a mesh file is, found in a child process. Every file ends `ok` or with a typed reason."""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from randscene.errors import RandsceneError
from randscene.manifests.asset_mesh import CONVERTED_SUFFIXES, MAX_FACES
from randscene.manifests.asset_record import Support, UpAxis
from randscene.manifests.guarded_workers import GuardedWorkers

TIMEOUT_S = 60.0
MEMORY_BYTES = 4 << 30


@dataclass(frozen=True, kw_only=True, slots=True)
class AssetFacts:
    """What inspection found. Lengths are in the asset frame (Z up), in the file's own units; zeros when unknown."""

    status: str
    """`ok`, or a reason; `docs/assets.md` explains each."""
    message: str
    """The line for people; empty when ok."""
    sha256: str
    """Empty if the file could not be read."""
    geometry: str
    """See `AssetRecord.geometry`; empty unless the status is `ok`."""
    extents: tuple[float, float, float]
    bounds_min: tuple[float, float, float]
    n_faces: int
    has_texture: bool
    support: Support | None


def inspect_asset(
    path: str | Path,
    *,
    up_axis: UpAxis = "Y",
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int = MEMORY_BYTES,
    max_faces: int = MAX_FACES,
) -> AssetFacts:
    """Inspect one file; see `inspect_assets`."""
    facts = inspect_assets([path], up_axis=up_axis, timeout_s=timeout_s, memory_bytes=memory_bytes, max_faces=max_faces)
    return next(iter(facts))[1]


def inspect_assets(
    paths: Iterable[str | Path],
    *,
    up_axis: UpAxis = "Y",
    workers: int = 1,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int = MEMORY_BYTES,
    max_faces: int = MAX_FACES,
) -> Iterator[tuple[int, AssetFacts]]:
    """Inspect files in child processes; yields (position in `paths`, facts) in order of completion.

    Of an `.fbx`, what Blender makes of it is inspected, and then thrown away; it is always Y up.

    Parameters
    ----------
    paths : iterable of str or Path
    up_axis : {"Y", "Z"}
        Up direction of the files.
    workers : int
        Number of child processes.
    timeout_s : float
        Seconds that one file may take.
    memory_bytes : int
        Memory that one file may take (Linux only).
    max_faces : int
        Most triangles that one file may have.

    Raises
    ------
    RandsceneError
        If the disk for temporary files is full.
    """
    pool = GuardedWorkers(workers, timeout_s=timeout_s, memory_bytes=memory_bytes)
    with tempfile.TemporaryDirectory(prefix="randscene-inspect-") as scratch, pool:
        tasks = (
            {"up_axis": up_axis, "max_faces": max_faces} | _task(Path(path).resolve(), Path(scratch) / str(number))
            for number, path in enumerate(paths)
        )
        for position, answer in pool.run(tasks):
            if answer["status"] == "refused":  # no verdict on the file
                raise RandsceneError(answer["message"])
            yield position, facts_from(answer)


def _task(path: Path, scratch: Path) -> dict[str, Any]:
    if path.suffix.lower() in CONVERTED_SUFFIXES:
        return {"path": str(scratch / f"{path.stem}.glb"), "original": str(path), "up_axis": "Y"}
    return {"path": str(path)}


def facts_from(answer: dict[str, Any]) -> AssetFacts:
    """The facts in a worker's answer (see `asset_worker.perform`)."""
    support = answer.get("support")
    x, y, z = answer.get("extents", (0.0, 0.0, 0.0))
    low_x, low_y, low_z = answer.get("bounds_min", (0.0, 0.0, 0.0))
    return AssetFacts(
        status=answer["status"],
        message=answer["message"],
        sha256=answer.get("sha256", ""),
        geometry=answer.get("geometry", ""),
        extents=(x, y, z),
        bounds_min=(low_x, low_y, low_z),
        n_faces=answer.get("n_faces", 0),
        has_texture=answer.get("has_texture", False),
        support=None if support is None else _support(support),
    )


def _support(data: dict[str, Any]) -> Support:
    return Support(
        height=data["height"],
        area=data["area"],
        clearance=data["clearance"],
        anchor=(data["anchor"][0], data["anchor"][1]),
        polygon=tuple((x, y) for x, y in data["polygon"]),
        holes=tuple(tuple((x, y) for x, y in ring) for ring in data["holes"]),
    )
