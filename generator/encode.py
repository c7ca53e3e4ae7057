"""Latents for a finished dataset, beside its shards: on GPUs where there are some, two Ray actors each.

The unit of work is a shard. Its latents are committed like the shard itself, tar first, then index, so that the same
command goes on where another was stopped. A shard's views are encoded together, across scenes.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import DatasetError, RandsceneError, first_line
from randscene.lookahead import lookahead
from randscene.ray_session import deaths, ray_session
from randscene.shards import read_tar
from randscene.shards.commit import commit_shard, local_copy, remove_leftovers
from randscene.shards.dataset import shard_files
from randscene.shards.dataset_card import write_card
from randscene.shards.dataset_info import read_info
from randscene.shards.latent_sidecar import MEMBER, belongs, sidecar_folder, sidecar_header
from randscene.shards.sample_codec import npy_bytes, npz_arrays
from randscene.shards.shard_index import INDEX_ENDING, ShardIndex, read_index, read_indices
from randscene.shards.store import Store, open_store
from randscene.shards.writer_lock import sole_writer, worker_turn

log = logging.getLogger(__name__)

GRIDS_AT_ONCE = 4096
"""Grids whose latents are held in memory; 64 kB each."""
ACTORS_A_GPU = 2
"""One reads, checks and writes while the other's grids are on the GPU: 30 % more than one alone."""
COMPILE_FROM = 20_000
"""Grids a GPU must have to do before compiling its passes pays."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodeReport:
    """What `encode` did."""

    url: str
    """Folder of the latents."""
    shards: int
    """Shards of the dataset."""
    shards_made: int
    """Those encoded by this call."""
    grids_made: int
    bytes_made: int
    seconds: float


class EncodeActor:
    """Encodes shards, one at a time. Ray turns this class into an actor; it also works without Ray.

    Parameters
    ----------
    root : str
        Dataset folder or URL.
    encoder : str
        As `randscene.train.load_encoder` takes it.
    sha256 : str
        Of its weights, as the driver found them.
    device : str
        A torch device.
    compile : bool
        Whether to compile the passes on a GPU.
    token : str
        Names the run; empty for who writes alone.
    """

    def __init__(
        self, root: str, encoder: str, sha256: str, *, device: str = "cpu", compile: bool = False, token: str = ""
    ) -> None:
        from randscene.train import load_encoder

        self._store = open_store(root)
        self._token = token
        self._encoder = load_encoder(encoder, device)
        if self._encoder.sha256 != sha256:
            raise RandsceneError(
                f"encoder {encoder} has other weights on this machine ({self._encoder.sha256[:12]}) "
                f"than where the command was started ({sha256[:12]}): provide the same files"
            )
        self._fast: Any = None
        if device != "cpu":
            from randscene.train.active_box_encoder import ActiveBoxEncoder

            self._fast = ActiveBoxEncoder(self._encoder.module, compile=compile)

    def encode(self, name: str) -> tuple[int, int]:
        """Write the latents of one shard, by its name without ending; returns (grids, bytes of the tar).

        Raises
        ------
        DatasetError
            If the shard is not what its index says.
        RandsceneError
            If the disk or store is full or not writable, or the run is over.
        """
        index = read_index(self._store, f"shards/{name}.tar")
        header = sidecar_header(index, name=self._encoder.name, sha256=self._encoder.sha256)
        target = sidecar_folder(self._encoder.sha256)
        grids = 0

        def samples(tar: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
            nonlocal grids
            # Reading, encoding and writing go on side by side.
            encoded = ((keys, counts, self._latents(parts)) for keys, counts, parts in lookahead(_chunks(tar)))
            for keys, counts, latents in lookahead(encoded):
                grids += len(latents)
                ends = np.cumsum(counts)
                for key, start, end in zip(keys, ends - counts, ends):
                    yield key, {MEMBER: npy_bytes(latents[start:end])}

        with (
            worker_turn(self._store, _lock(target), self._token),
            local_copy(self._store, f"shards/{name}.tar", sha256=index.tar_sha256) as tar,
        ):
            written = commit_shard(self._store, f"{target}/{name}.tar", samples(tar), header=header)
        if written.keys != index.keys:
            raise DatasetError(f"{self._store.url}/shards/{name}.tar: its keys are not those of its index")
        return grids, written.tar_bytes

    def _latents(self, grids: Sequence[NDArray[Any]]) -> NDArray[Any]:
        from randscene.train import encode_voxels

        found: NDArray[Any] = encode_voxels(self._encoder, grids) if self._fast is None else self._fast.encode(grids)
        return found


def encode(
    root: str | Path,
    encoder: str,
    *,
    ray_address: str | None = None,
    workers: int | None = None,
    device: str | None = None,
    progress: Callable[[int, int, int], None] | None = None,
) -> EncodeReport:
    """Put latents of all committed shards beside them; goes on where an earlier call was stopped.

    The latents of a sample are those of its scene, the union of its instances' voxels, and of each instance, in the
    frame that the dataset was built in. Read them with `open_dataset(root, latents=encoder)`. The card of a finished
    dataset then names them.

    Parameters
    ----------
    root : path or URL
        Dataset folder; on a cluster, on a file system that all nodes share, or a URL.
    encoder : str
        `mini`, a folder in the hub's layout, or a Hugging Face id.
    ray_address : str, optional
        A running Ray cluster; a local one is started otherwise.
    workers : int, optional
        Actors; by default two a GPU of the cluster, or one a CPU where it has none.
    device : {"cpu", "cuda"}, optional
        By default `cuda` where the cluster has GPUs.
    progress : callable, optional
        Called with (shards done, shards, grids encoded by this call).

    Raises
    ------
    DatasetError
        If there is no committed shard, or one is corrupt.
    CheckpointError
        If the encoder cannot be loaded.
    RandsceneError
        If `device` asks for what the cluster lacks, or the disk is full.
    """
    from randscene.train import load_encoder

    begun = time.monotonic()
    store = open_store(root if "://" in str(root) else Path(root).absolute())
    names, _, sizes = shard_files(store, None)
    if not names:
        raise DatasetError(
            f"{root} has no committed shard: name the folder of a dataset that `randscene generate` made"
        )
    read_info(store)  # what no reader would open is refused before the work
    sha256 = load_encoder(encoder).sha256
    target = sidecar_folder(sha256)
    indices = dict(zip(names, read_indices(store, "shards", names, sizes)))
    held = store.sizes(target)
    todo = [name for name, index in indices.items() if not _done(store, target, name, held, index)]
    grids = written = 0
    if progress is not None:
        progress(len(names) - len(todo), len(names), 0)
    busy = f"{store.url}/{target}: another `randscene encode` is writing here"
    if todo:
        expected = sum(int(indices[name].n_instances.sum()) + len(indices[name]) for name in todo)
        with (
            sole_writer(store, _lock(target), busy=busy) as hold,
            ray_session(ray_address, cpus=workers if device == "cpu" else None) as ray,
        ):
            remove_leftovers(store, [target])
            chosen, count = _placement(ray.cluster_resources(), device, workers, len(todo))
            # An actor on a card asks for no CPU: where other work holds all of them, or the card's machine has given
            # Ray none, it would wait for ever.
            share = {"num_gpus": 1 / ACTORS_A_GPU, "num_cpus": 0} if chosen == "cuda" else {"num_cpus": 1}
            remote = ray.remote(**share)
            compile_it = chosen == "cuda" and expected / count >= COMPILE_FROM
            idle = [
                remote(EncodeActor).remote(
                    store.url, encoder, sha256, device=chosen, compile=compile_it, token=hold.token
                )
                for _ in range(count)
            ]
            running: dict[Any, Any] = {}
            waiting = list(reversed(todo))
            done = len(names) - len(todo)
            while waiting or running:
                hold.check()
                while waiting and idle:
                    actor = idle.pop()
                    running[actor.encode.remote(waiting.pop())] = actor
                (finished,), _ = ray.wait(list(running), num_returns=1)
                idle.append(running.pop(finished))
                try:
                    made, size = ray.get(finished)
                except ray.exceptions.RayTaskError as error:
                    if isinstance(error.cause, RandsceneError):
                        raise error.cause from error
                    raise
                except deaths(ray) as error:
                    raise RandsceneError(_what_happened(error)) from error
                done, grids, written = done + 1, grids + made, written + size
                if progress is not None:
                    progress(done, len(names), grids)
    if read_info(store).get("complete"):  # otherwise the build writes the card when it ends
        write_card(store.url, pictures=False)
    return EncodeReport(
        url=f"{store.url}/{target}",
        shards=len(names),
        shards_made=len(todo),
        grids_made=grids,
        bytes_made=written,
        seconds=time.monotonic() - begun,
    )


def _placement(resources: dict[str, float], device: str | None, workers: int | None, shards: int) -> tuple[str, int]:
    """Device and number of actors on a cluster with these resources."""
    gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
    if device == "cuda" and not gpus:
        raise RandsceneError("there is no GPU in this Ray cluster: leave --device out, or set it to cpu")
    if device == "cpu" and gpus and not cpus:
        raise RandsceneError(
            "this Ray cluster has GPUs but no CPU, so that no worker would ever start: leave --device out, or start "
            "Ray on a machine with --num-cpus=N"
        )
    chosen = device or ("cuda" if gpus else "cpu")
    # More than there is room for would never start: those that run keep their place until the end. Where there is
    # neither CPU nor GPU, one makes a cluster that grows by itself start a machine.
    room = ACTORS_A_GPU * gpus if chosen == "cuda" else max(1, cpus)
    return chosen, min(shards, workers or room, room)


def _what_happened(death: Exception) -> str:
    """What to tell of a worker that died, as Ray has it, and what to do about it."""
    if getattr(death, "actor_init_failed", False):
        # A page, with the worker's own error in its last line.
        return (
            f"a worker could not start ({str(death).strip().splitlines()[-1]}): `randscene doctor`, on each machine of "
            "a cluster, says whether PyTorch works there with its cards"
        )
    return (
        f"a worker died while it encoded ({first_line(death)}); what is done is kept: "
        "run the same command again, with fewer --workers if memory ran out"
    )


def _lock(target: str) -> str:
    return f"{target}/.encode.lock"


def _done(store: Store, target: str, name: str, sizes: dict[str, int], index: ShardIndex) -> bool:
    """Whether the latents of a shard are committed, whole, and of this very shard; `sizes` are of what lies there."""
    if f"{name}{INDEX_ENDING}" not in sizes:
        return False
    try:
        found = read_index(store, f"{target}/{name}.tar")
    except DatasetError:
        return False
    return belongs(found, index) and sizes.get(f"{name}.tar") == found.tar_bytes


def _chunks(tar: Path) -> Iterator[tuple[list[str], NDArray[Any], list[NDArray[Any]]]]:
    """Samples of a shard, some thousand grids at a time: keys, number of grids of each, and the grids.

    A sample's grids are the scene's, the union of its instances', then each instance's.
    """
    keys: list[str] = []
    counts: list[int] = []
    grids: list[NDArray[Any]] = []
    for key, members in read_tar(tar):
        voxels = npz_arrays(members["voxels.npz"], ("coords", "offsets"))
        coords, offsets = voxels["coords"], voxels["offsets"]
        keys.append(key)
        counts.append(len(offsets))
        grids.append(np.unique(coords, axis=0))
        grids += [coords[offsets[i] : offsets[i + 1]] for i in range(len(offsets) - 1)]
        if len(grids) >= GRIDS_AT_ONCE:
            yield keys, np.array(counts), grids
            keys, counts, grids = [], [], []
    if keys:
        yield keys, np.array(counts), grids
