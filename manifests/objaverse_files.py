"""Where the files of Objaverse 1.0 come from: a folder on this machine, else the Hugging Face hub.

Layout, the same in the dataset repository `allenai/objaverse`, in a `hf download` of it, and in the cache of the
`objaverse` package (https://objaverse.allenai.org/docs/objaverse-1.0):

    object-paths.json.gz         {uid: "glbs/000-023/{uid}.glb"}
    lvis-annotations.json.gz     {category: [uid, ...]}
    metadata/000-023.json.gz     {uid: annotation}
    glbs/000-023/{uid}.glb
"""

import gzip
import json
import os
import re
import shutil
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from randscene.errors import AssetError, LockError
from randscene.files import explain_os_errors, sha256_of
from randscene.manifests.download import Downloader

DEFAULT_FOLDER = Path("~/.objaverse/hf-objaverse-v1")
"""Where the `objaverse` package keeps what it has downloaded."""

_MESH_PATH = re.compile(r"glbs/(\d{3}-\d{3})/([A-Za-z0-9_-]{1,128})\.glb")
_REPOSITORY = "datasets/allenai/objaverse/resolve/main"


@dataclass(frozen=True, kw_only=True)
class NetworkLimits:
    """How patient downloads are, and how many run at a time."""

    downloads: int = 8
    """Files at the same time."""
    timeout_s: float = 30.0
    """Seconds that a server may be silent."""
    attempts: int = 5
    """Tries of one file in one run."""
    pause_s: float = 1.0
    """Seconds before the second try; doubled before each further one."""


class ObjaverseFiles:
    """Objaverse's files by their place in the layout; reads `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE`.

    Parameters
    ----------
    folder : Path, optional
        Files in that layout that are here already. Annotations are fetched into it, so that they are fetched once;
        meshes only read from it. The `objaverse` package's own folder by default.
    limits : NetworkLimits

    Raises
    ------
    LockError
        If a folder is given that does not exist, or `HF_ENDPOINT` is no address.
    """

    def __init__(self, folder: Path | None, limits: NetworkLimits) -> None:
        if folder is not None and not folder.is_dir():
            raise LockError(f"{folder}: no such folder: --path names one that holds Objaverse files, or leave it out")
        self.folder = DEFAULT_FOLDER.expanduser() if folder is None else folder
        self._endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
        if not self._endpoint.startswith(("http://", "https://")):
            raise LockError(f"HF_ENDPOINT is {self._endpoint!r}: it must begin with http:// or https://")
        self._offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
        self._downloader = Downloader(
            token=os.environ.get("HF_TOKEN"),
            timeout_s=limits.timeout_s,
            attempts=limits.attempts,
            pause_s=limits.pause_s,
        )

    def stop(self) -> None:
        """End waits for further attempts."""
        self._downloader.stop()

    def mesh_paths(self) -> dict[str, str]:
        """Place of each object's mesh, by uid.

        Raises
        ------
        LockError
            If the list cannot be had, is damaged, or names a place outside the layout.
        """
        found = self._read("object-paths.json.gz")
        for uid, place in found.items():
            match = _MESH_PATH.fullmatch(place) if isinstance(place, str) else None
            if match is None or match[2] != uid:
                raise self._damaged("object-paths.json.gz", f"{uid!r} is said to lie at {place!r}")
        return found

    def lvis_categories(self) -> dict[str, list[str]]:
        """Uids of each LVIS category. Raises as `mesh_paths` does."""
        found = self._read("lvis-annotations.json.gz")
        if not all(isinstance(uids, list) for uids in found.values()):
            raise self._damaged("lvis-annotations.json.gz", "a category holds no list")
        return found

    def annotations(self, shard: str) -> dict[str, Any]:
        """Annotations of one shard (`000-023`), by uid. Raises as `mesh_paths` does."""
        return self._read(f"metadata/{shard}.json.gz")

    def fetch_annotations(self, shard: str) -> None:
        """See to it that a shard's annotations are in the folder. Raises `LockError` if they cannot be had."""
        self._local(f"metadata/{shard}.json.gz")

    def fetch_mesh(self, place: str, target: Path, *, sha256: str | None) -> None:
        """Put one mesh at `target`: what lies there, a copy from the folder, or a download.

        Parameters
        ----------
        place : str
            As in `mesh_paths`.
        target : Path
        sha256 : str, optional
            What its bytes must be. A download is also held against the hash that the server publishes.

        Raises
        ------
        AssetError
            With a reason of `Downloader.fetch`; `hash_mismatch` also when `target` holds something else.
        RandsceneError
            If the disk is full or not writable.
        """
        if target.exists():
            promised = sha256 if sha256 or self._offline else self._downloader.published_sha256(self._url(place))
            if promised is not None and sha256_of(target) != promised:
                raise AssetError("hash_mismatch", f"{target} holds other content than {place}: delete it")
            return
        copy = self.folder / place
        if _is_whole_glb(copy) and sha256 in (None, sha256_of(copy)):
            _link_or_copy(copy, target)
        elif self._offline:
            raise AssetError("download_failed", f"{place} is not in {self.folder}, and HF_HUB_OFFLINE is set")
        else:
            self._downloader.fetch(self._url(place), target, sha256=sha256)

    def _url(self, place: str) -> str:
        return f"{self._endpoint}/{_REPOSITORY}/{place}"

    def _local(self, place: str) -> Path:
        path = self.folder / place
        if path.is_file():
            return path
        here = f"have it in {self.folder}, or name with --path another folder of Objaverse files"
        if self._offline:
            raise LockError(f"Objaverse's {place} is not here, and HF_HUB_OFFLINE is set: {here}")
        try:
            self._downloader.fetch(self._url(place), path)
        except AssetError as error:
            raise LockError(
                f"cannot fetch Objaverse's {place}: {error}; check the network and HF_ENDPOINT, or {here}"
            ) from error
        return path

    def _read(self, place: str) -> dict[str, Any]:
        path = self._local(place)
        try:
            with gzip.open(path, "rb") as handle:
                found = json.load(handle)
        except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
            raise self._damaged(place, f"{type(error).__name__}: {error}") from error
        if not isinstance(found, dict):
            raise self._damaged(place, "it holds no object")
        return found

    def _damaged(self, place: str, why: str) -> LockError:
        return LockError(f"{self.folder / place} is damaged ({why}): delete it and run the same command again")


def _is_whole_glb(path: Path) -> bool:
    """Whether there is a GLB file whose header states the file's own length."""
    try:
        with path.open("rb") as handle:
            head = handle.read(12)
            return len(head) == 12 and struct.unpack("<4sII", head)[::2] == (b"glTF", os.fstat(handle.fileno()).st_size)
    except OSError:
        return False


def _link_or_copy(source: Path, target: Path) -> None:
    """The same file under a second name where the disk allows it, else a copy; `target` appears whole or not at all."""
    part = target.with_name(f".{target.name}.part")
    with explain_os_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        try:
            os.link(source.resolve(), part)
        except OSError:
            shutil.copyfile(source, part)
        os.replace(part, target)
