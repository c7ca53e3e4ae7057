"""The child process of `guarded_workers`: reads tasks as lines of JSON, answers each with one line.

Run as `python -m randscene.manifests.asset_worker MEMORY_BYTES`.
"""

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from randscene.errors import AssetError, RandsceneError
from randscene.files import no_room, sha256_of, write_atomic


def main() -> None:
    """Answer tasks until the input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the answers
    import shapely  # noqa: F401
    import trimesh  # noqa: F401

    import randscene.manifests.support_surface  # noqa: F401

    _limit_memory(int(sys.argv[1]))
    answers.write(b"ready\n")
    answers.flush()
    for line in sys.stdin.buffer:
        answers.write(json.dumps(perform(json.loads(line))).encode() + b"\n")
        answers.flush()


def perform(task: dict[str, Any]) -> dict[str, Any]:
    """Carry out one task: make the file when the task says how, then inspect it.

    Parameters
    ----------
    task : dict
        `path`, `up_axis`; optionally `max_faces`; `family` and `seed`, or `original` (a file that Blender converts),
        when the file is to be made first, and `replace` if it may take the place of another.

    Returns
    -------
    dict
        `status` (`ok`, a typed reason, or `refused` for what is no fault of the file: a full disk, a file of other
        content in its place), `message`, and when known `sha256`, `geometry`, `extents`, `bounds_min`,
        `n_faces`, `has_texture`, `support`, `reused` (the file was there with the right bytes).
    """
    path = Path(task["path"])
    facts: dict[str, Any] = {}
    try:
        if "family" in task:
            facts["reused"] = _make(path, task["family"], task["seed"], replace=task["replace"])
        elif "original" in task:
            facts["reused"] = _convert(path, Path(task["original"]), replace=task.get("replace", False))
        facts["sha256"] = sha256_of(path)
        facts.update(_measure(path, task["up_axis"], task.get("max_faces")))
        return {"status": "ok", "message": "", **facts}
    except AssetError as error:
        return {"status": error.reason, "message": str(error), **facts}
    except RandsceneError as error:
        return {"status": "refused", "message": str(error), **facts}
    except MemoryError:
        return {"status": "out_of_memory", "message": f"{path}: needs more memory than allowed", **facts}
    except OSError as error:
        if line := no_room(str(error), error.filename or "temporary files"):
            return {"status": "refused", "message": line, **facts}
        if isinstance(error, FileNotFoundError):
            return {"status": "missing_file", "message": f"{path}: no such file", **facts}
        return {"status": "unreadable", "message": f"{path}: {error.strerror or error}", **facts}


def _make(path: Path, family: str, seed: int, *, replace: bool) -> bool:
    from randscene.manifests.procedural import build_glb

    data = build_glb(family, seed)
    if path.is_file():
        if path.read_bytes() == data:
            return True
        if not replace:
            raise _other_content(path)
    write_atomic(path, data)
    return False


def _convert(path: Path, original: Path, *, replace: bool) -> bool:
    from randscene.manifests.conversion import convert, is_conversion

    if path.is_file():
        if is_conversion(path, original):
            return True
        if not replace and not is_conversion(path):
            raise _other_content(path)
    convert(original, path)
    return False


def _other_content(path: Path) -> RandsceneError:
    return RandsceneError(f"{path} exists with other content: choose another --out, or replace it with --force")


def _measure(path: Path, up_axis: str, max_faces: int | None) -> dict[str, Any]:
    from randscene.manifests.asset_mesh import MAX_FACES, load_asset_mesh
    from randscene.manifests.geometry_hash import geometry_hash
    from randscene.manifests.support_surface import find_support

    mesh = load_asset_mesh(
        path,
        up_axis="Z" if up_axis == "Z" else "Y",
        max_faces=MAX_FACES if max_faces is None else max_faces,
        reduce_textures=True,
    )
    lower, upper = mesh.bounds
    support = find_support(mesh)
    return {
        "geometry": geometry_hash(mesh),
        "extents": (upper - lower).tolist(),
        "bounds_min": lower.tolist(),
        "n_faces": len(mesh.faces),
        "has_texture": mesh.has_texture,
        "support": None if support is None else dataclasses.asdict(support),
    }


def _limit_memory(allowance: int) -> None:
    """Bound the address space at what is in use now plus `allowance` bytes."""
    if sys.platform != "linux":
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + allowance
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


if __name__ == "__main__":
    main()
