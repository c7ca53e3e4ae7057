"""Conversion: mesh files that only Blender reads, written anew as `.glb` by a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from randscene.errors import AssetError, RandsceneError
from randscene.files import no_room, sha256_of
from randscene.manifests.gltf_header import read_gltf

CONVERTER = (sys.executable, "-m", "randscene.blender_scripts.convert_mesh")
MEMORY_BYTES = 16 << 30
"""Address space that Blender may use for one file (Linux)."""


def convert(original: Path, path: Path, *, timeout_s: float | None = None, memory_bytes: int = MEMORY_BYTES) -> None:
    """Write `original` anew as the `.glb` `path`: meshes at rest and their materials, nothing else.

    Blender ends with this process, whatever becomes of it (Linux).

    Parameters
    ----------
    original : Path
        `.fbx`.
    path : Path
        Written whole or not at all.
    timeout_s : float, optional
        Seconds that it may take.
    memory_bytes : int
        Address space that Blender may use (Linux).

    Raises
    ------
    AssetError
        `missing_file`, `needs_blender`, `timeout`, `conversion_failed`, or a reason of the converter.
    RandsceneError
        If a disk is full, or `path` cannot be written.
    """
    if not original.is_file():
        raise AssetError("missing_file", f"{original}: no such file")
    with tempfile.TemporaryDirectory(prefix="randscene-convert-") as scratch:
        command = [*CONVERTER, "--parent", str(os.getpid()), "--memory-bytes", str(memory_bytes)]
        # Nobody's own Blender settings or add-ons; and what Blender leaves behind goes with the folder.
        environment = {**os.environ, "BLENDER_USER_RESOURCES": scratch, "TMPDIR": scratch}
        try:
            done = subprocess.run(
                [*command, str(original.resolve()), str(path.resolve())],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=environment,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise AssetError("timeout", f"{original}: not converted within {timeout_s:g} s") from error
    try:
        answer = json.loads(done.stdout)
        status, message = answer["status"], answer["message"]
    except (ValueError, KeyError, TypeError) as error:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        if line := no_room("\n".join(words[-1:]), scratch):
            raise RandsceneError(line) from error
        last = f": {words[-1][:200]}" if words else ""
        raise AssetError(
            "conversion_failed", f"{original}: Blender died (exit code {done.returncode}){last}"
        ) from error
    if status == "refused":
        raise RandsceneError(message)
    if status != "ok":
        raise AssetError(status, message)


def is_conversion(path: Path, original: Path | None = None) -> bool:
    """Whether a file was written by `convert`; if an original is given: from its very bytes."""
    try:
        made_from = read_gltf(path)[0]["asset"]["extras"]["randscene"]["source_sha256"]
    except (AssetError, OSError, KeyError, TypeError):
        return False
    return original is None or made_from == sha256_of(original)
