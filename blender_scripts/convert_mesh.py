"""Write a mesh file that only Blender reads (FBX) anew as a plain `.glb`.

Run as `python -m randscene.blender_scripts.convert_mesh --parent PID [--memory-bytes N] IN.fbx OUT.glb`. The result
holds the meshes alone, at rest, with their materials and pictures, Y up: no armatures, animations, cameras or lights.
One line of JSON on standard output says how it went: `status` (`ok`, a typed reason, or `refused` where the disk takes
no more) and `message`. The same input gives the same bytes; `asset.extras.randscene` holds the input's SHA-256.
"""

import argparse
import json
import os
import struct
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from randscene.blender_scripts import process_setup
from randscene.blender_scripts.importer_errors import what_failed
from randscene.errors import AssetError, RandsceneError
from randscene.files import no_room, sha256_of, write_atomic

SUFFIXES = (".fbx",)


def main() -> None:
    """Convert one file, answer, end."""
    parser = argparse.ArgumentParser(description="Write a mesh file that only Blender reads anew as a plain .glb.")
    parser.add_argument("--parent", type=int, required=True, help="process id of the caller: end when it ends")
    parser.add_argument("--memory-bytes", type=int, help="address space that may be used (Linux)")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    process_setup.die_with_parent(arguments.parent)
    answers = os.dup(1)
    os.dup2(2, 1)  # Blender prints to standard output
    if arguments.memory_bytes is not None:
        _limit_memory(arguments.memory_bytes)
    answer = {"status": "ok", "message": ""}
    try:
        convert(arguments.source, arguments.target)
    except AssetError as error:
        answer = {"status": error.reason, "message": str(error)}
    except RandsceneError as error:
        answer = {"status": "refused", "message": str(error)}
    except MemoryError:
        answer = {"status": "out_of_memory", "message": f"{arguments.source}: needs more memory than allowed"}
    except Exception:
        traceback.print_exc()
        process_setup.exit_now(1)
    os.write(answers, json.dumps(answer).encode() + b"\n")
    process_setup.exit_now(0)


def convert(source: Path, target: Path) -> None:
    """Convert one file.

    Parameters
    ----------
    source : Path
        `.fbx`, binary.
    target : Path
        Written whole or not at all.

    Raises
    ------
    AssetError
        `needs_blender` if bpy cannot be imported, `conversion_failed` if Blender cannot read the file, `missing_file`
        or `unsafe_path` if a picture is not where the file says or not in its folder, `empty` without meshes.
    RandsceneError
        If the disk is full or cannot be written.
    """
    if source.suffix.lower() not in SUFFIXES:
        raise AssetError("unsupported_format", f"{source}: only {', '.join(SUFFIXES)} files are converted")
    try:
        import bpy
    except ImportError as error:
        raise AssetError(
            "needs_blender", f"{source}: Blender is needed to read it: install the extra `generate` ({error})"
        ) from error
    digest = sha256_of(source)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    try:
        bpy.ops.import_scene.fbx(filepath=str(source), use_anim=False, use_image_search=False)
    except Exception as error:
        # The importer raises whatever a broken file makes it stumble over.
        raise AssetError("conversion_failed", f"{source}: Blender cannot read it: {what_failed(error)}") from error
    _check_pictures(bpy, source)
    _keep_meshes_at_rest(bpy, source)
    with tempfile.TemporaryDirectory() as scratch:
        written = Path(scratch) / "mesh.glb"
        try:
            bpy.ops.export_scene.gltf(
                filepath=str(written),
                export_format="GLB",
                export_yup=True,
                export_animations=False,
                export_skins=False,
                export_morph=False,
                export_cameras=False,
                export_lights=False,
                export_extras=False,
            )
            data = written.read_bytes()
        except Exception as error:
            if line := no_room(str(error), written):
                raise RandsceneError(line) from error
            raise AssetError("conversion_failed", f"{source}: Blender cannot write it: {what_failed(error)}") from error
    write_atomic(target, _marked(data, digest))


def _check_pictures(bpy: Any, source: Path) -> None:
    folder = source.parent.resolve()
    for image in bpy.data.images:
        if image.packed_file is not None or not image.filepath:
            continue
        path = Path(bpy.path.abspath(image.filepath)).resolve()
        if not path.is_relative_to(folder):
            raise AssetError("unsafe_path", f"{source}: it refers to {image.filepath!r}, which lies outside its folder")
        if not path.is_file():
            raise AssetError("missing_file", f"{source}: it refers to {image.filepath!r}, which does not exist")


def _keep_meshes_at_rest(bpy: Any, source: Path) -> None:
    """Leave in the scene one object a mesh, at the origin, its vertices where they are at rest."""
    for armature in bpy.data.armatures:
        armature.pose_position = "REST"
    layer = bpy.context.view_layer
    layer.update()
    found = [(item.name, item.data, item.matrix_world.copy()) for item in layer.objects if item.type == "MESH"]
    bpy.data.batch_remove(list(bpy.data.objects))
    kept = 0
    for name, original, matrix in sorted(found, key=lambda entry: entry[0]):
        if not len(original.polygons):
            continue
        mesh = original.copy()
        item = bpy.data.objects.new(name, mesh)
        bpy.context.scene.collection.objects.link(item)
        if mesh.shape_keys is not None:
            item.shape_key_clear()
        mesh.transform(matrix)
        if np.linalg.det(np.array(matrix)[:3, :3]) < 0:
            mesh.flip_normals()
        kept += 1
    if not kept:
        raise AssetError("empty", f"{source}: it holds no mesh with faces")


def _marked(data: bytes, digest: str) -> bytes:
    """The file with the hash of what it was made from in its header."""
    length = struct.unpack_from("<I", data, 12)[0]
    header = json.loads(data[20 : 20 + length])
    header["asset"]["extras"] = {"randscene": {"source_sha256": digest}}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + length :]
    total = 20 + len(text) + len(rest)
    return struct.pack("<4sII", b"glTF", 2, total) + struct.pack("<I4s", len(text), b"JSON") + text + rest


def _limit_memory(limit: int) -> None:
    """Bound the address space; the bound that the caller set for itself is too small for Blender."""
    if sys.platform != "linux":
        return
    import resource

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


if __name__ == "__main__":
    main()
