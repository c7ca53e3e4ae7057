"""From views to tensors: groups of one scene and K of its instances, in the run's frame and latents.

Every group has K + 1 sequences, whatever its scene holds, so a step costs the same on every rank and pads nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from randscene import seeding
from randscene.errors import DatasetError
from randscene.train.flow_matching import keep_condition, logit_normal_times
from randscene.train.image_conditioner import crop_images
from randscene.train.settings import DataSettings, RunSettings

if TYPE_CHECKING:
    from randscene.shards import ViewSample
    from randscene.train.structure_encoder import LoadedEncoder


LATENT_SHAPE = (8, 16, 16, 16)


@dataclass(frozen=True, kw_only=True)
class GroupBatch:
    """S groups, each a scene and K of its instances: M = S K, group by group."""

    scene_latents: Tensor
    """(S, 8, 16, 16, 16) float32."""
    instance_latents: Tensor
    """(M, 8, 16, 16, 16) float32."""
    images: Tensor
    """(S + M, 3, size, size) uint8: all scenes first, then all instances."""
    scene_of: Tensor
    """(M,) int64: the group of each instance."""
    instances: Tensor
    """(M,) int64: 1-based ids."""
    keys: tuple[str, ...]
    """The S samples' keys."""
    positions: tuple[int, ...]
    """Places of the S samples in the data's endless sequence: what their random numbers depend on."""
    grids: Mapping[int, NDArray[Any]] = field(default_factory=dict)
    """(V, 3) uint8 voxels of the sequences that are still to be encoded, by row (all scenes first, then all
    instances); their latents are zero until `LatentSource.encode`."""

    @property
    def wholly_to_encode(self) -> bool:
        """Whether no sequence has latents yet: theirs are one zero then, seen many times."""
        return len(self.grids) == len(self.scene_latents) + len(self.instance_latents)

    def pin_memory(self) -> "GroupBatch":
        """The same in page-locked memory, from where copies to a GPU need not be waited for."""
        names = ["images", "scene_of"] + ([] if self.wholly_to_encode else ["scene_latents", "instance_latents"])
        return replace(self, **{name: getattr(self, name).pin_memory() for name in names})


def choose_instances(count: int, wanted: int, rng: np.random.Generator) -> NDArray[Any]:
    """Which instances of a scene take part in a step.

    Drawn without repetition while there are any; a scene with fewer than `wanted` gives some of them again (each time
    with noise of its own), so that every group has the same number of sequences and no step needs padding.

    Returns
    -------
    (wanted,) int64
        1-based ids.
    """
    rounds = -(-wanted // count)
    return np.concatenate([rng.permutation(count) for _ in range(rounds)])[:wanted] + 1


def same_frame(meta: Mapping[str, Any], settings: DataSettings) -> bool:
    """Whether a sample (its `ViewSample.meta`) is of the run's frame."""
    return _frame(meta) == (settings.frame, settings.azimuth_offset_deg)


def _frame(meta: Mapping[str, Any]) -> tuple[str, float]:
    return meta["frame"], float(meta.get("azimuth_offset_deg", 0.0))


def check_frame(meta: Mapping[str, Any], settings: DataSettings, *, where: str) -> None:
    """Refuse a sample (its `ViewSample.meta`) of another frame than the run's.

    Raises
    ------
    DatasetError
        Naming `where` and both frames.
    """
    if not same_frame(meta, settings):
        frame, wanted = _frame(meta), (settings.frame, settings.azimuth_offset_deg)
        raise DatasetError(
            f"{where} is in frame {frame[0]} (azimuth offset {frame[1]:g}) but the run is in {wanted[0]} "
            f"({wanted[1]:g}): choose another dataset, or another data.frame"
        )


class LatentSource:
    """Latents in the run's frame and encoder: those stored in a sample, or its voxels encoded now.

    Parameters
    ----------
    settings : RunSettings
        `data.frame`, `data.azimuth_offset_deg` and `data.encoder` decide what is accepted.
    sha256 : str, optional
        Hash of the encoder's weights, when it is known already: what a resumed run was trained with.
    device : str
        Where voxels are encoded.
    """

    def __init__(self, settings: RunSettings, *, sha256: str | None = None, device: str = "cpu") -> None:
        self._data = settings.data
        self._sha256 = sha256
        self._device = device
        self._encoder: LoadedEncoder | None = None

    @property
    def encoder_sha256(self) -> str | None:
        """Hash of the encoder's weights; None until a sample or the encoder itself has told it."""
        return self._sha256

    def check(self, meta: Mapping[str, Any], *, has_latents: bool, where: str) -> None:
        """Refuse a sample of another frame or encoder than the run's; load the encoder if only it can tell.

        Parameters
        ----------
        meta : mapping
            `ViewSample.meta`.
        has_latents : bool
            Whether latents are stored with the sample.
        where : str
            Names the sample in an error.

        Raises
        ------
        DatasetError
            Naming what differs.
        CheckpointError
            If voxels must be encoded and the encoder cannot be loaded.
        """
        check_frame(meta, self._data, where=where)
        if not has_latents:
            if self._sha256 is None:
                self._load_encoder()
            return
        encoder = meta.get("encoder") or {}
        if self._sha256 is None:
            if encoder.get("name") != self._data.encoder:
                self._load_encoder()  # another name may still be the same weights
            else:
                self._sha256 = encoder["sha256"]
        if encoder.get("sha256") != self._sha256:
            theirs, ours = str(encoder.get("sha256"))[:12], str(self._sha256)[:12]
            raise DatasetError(
                f"{where} holds latents of encoder {encoder.get('name')} ({theirs}) but the run uses "
                f"{self._data.encoder} ({ours}): encode the dataset again, or set data.encoder"
            )

    def latents(self, sample: "ViewSample", instances: NDArray[Any]) -> NDArray[Any]:
        """(K + 1, 8, 16, 16, 16) float32: the scene, then `instances` (1-based ids) in their order.

        Raises
        ------
        DatasetError
            If the sample is not the run's (see `check`).
        """
        stored = self.stored(sample, instances)
        if stored is not None:
            return stored
        different, order = np.unique(instances, return_inverse=True)
        encoded = self._encoded([sample.scene_coords(), *(sample.instance_coords(int(i)) for i in different)])
        return encoded[np.concatenate([[0], order + 1])]

    def stored(self, sample: "ViewSample", instances: NDArray[Any]) -> NDArray[Any] | None:
        """As `latents`, but None where the sample has voxels alone. Loads no encoder."""
        self.check(sample.meta, has_latents=sample.latents is not None, where=f"sample {sample.key}")
        if sample.latents is None:
            return None
        return sample.latents[np.concatenate([[0], instances])].astype(np.float32)

    def encode(self, batch: GroupBatch) -> GroupBatch:
        """The batch with the latents of its `grids`, on the encoder's device."""
        if not batch.grids:
            return batch
        from randscene.train.structure_encoder import encode_on_device

        different: dict[bytes, int] = {}  # an instance that was drawn twice is encoded once
        place = {row: different.setdefault(grid.tobytes(), len(different)) for row, grid in batch.grids.items()}
        first = {number: row for row, number in reversed(place.items())}
        encoded = encode_on_device(
            self._load_encoder(), [batch.grids[first[number]] for number in range(len(different))]
        )
        pairs = torch.tensor([list(place), list(place.values())])
        rows, numbers = (pairs.pin_memory() if encoded.is_cuda else pairs).to(encoded.device, non_blocking=True)
        if batch.wholly_to_encode:  # by row, from the first to the last
            latents = encoded[numbers]
        else:
            # Copied one by one: joined on the CPU they would lie in other memory than what was pinned for the copy.
            both = (batch.scene_latents, batch.instance_latents)
            latents = torch.cat([one.to(encoded.device, non_blocking=True) for one in both])
            latents[rows] = encoded[numbers]
        scenes = len(batch.scene_latents)
        return replace(batch, scene_latents=latents[:scenes], instance_latents=latents[scenes:], grids={})

    def _encoded(self, grids: Sequence[NDArray[Any]]) -> NDArray[Any]:
        from randscene.train.structure_encoder import encode_voxels

        return encode_voxels(self._load_encoder(), grids).astype(np.float32)

    def _load_encoder(self) -> "LoadedEncoder":
        from randscene.train.structure_encoder import load_encoder

        if self._encoder is None:
            encoder = load_encoder(self._data.encoder, self._device)
            if self._sha256 not in (None, encoder.sha256):
                raise DatasetError(
                    f"encoder {self._data.encoder} has weights {encoder.sha256[:12]} but the run's latents were made "
                    f"with {str(self._sha256)[:12]}: provide the same weights"
                )
            self._encoder, self._sha256 = encoder, encoder.sha256
        return self._encoder


def build_batch(
    samples: Sequence["ViewSample"],
    settings: RunSettings,
    source: LatentSource,
    *,
    positions: Sequence[int],
    encode: bool = True,
) -> GroupBatch:
    """The tensors of one step on one rank, or of a part of it.

    Which instances are taken depends on the run's seed, the position and the sample alone: not on the number of ranks
    or loader workers. A position belongs to one step, so each visit of a sample draws anew.

    Parameters
    ----------
    samples : sequence of ViewSample
        S of them.
    settings : RunSettings
    source : LatentSource
    positions : sequence of int
        The samples' places in the data's endless sequence (`randscene.shards.Mixture`).
    encode : bool
        Encode voxels now; else leave them in `GroupBatch.grids`, as a loader's process does that has no encoder.

    Returns
    -------
    GroupBatch
        On the CPU.

    Raises
    ------
    DatasetError
        If a sample has another frame or encoder than the run's, or cannot be used; the message names it.
    """
    latents, images, chosen = [], [], []
    grids: dict[int, NDArray[Any]] = {}
    per_scene = settings.data.instances_per_scene
    for group, (sample, position) in enumerate(zip(samples, positions, strict=True)):
        rng = seeding.generator(settings.seed, position, "instances")
        instances = choose_instances(sample.n_instances, per_scene, rng)
        stored = source.stored(sample, instances)
        if stored is None:
            stored = np.broadcast_to(np.float32(0), (1 + per_scene, *LATENT_SHAPE))
            first = len(samples) + group * per_scene
            grids[group] = sample.scene_coords()
            grids |= {first + k: sample.instance_coords(int(instance)) for k, instance in enumerate(instances)}
        latents.append(stored)
        try:
            images.append(crop_images(sample, settings.conditioner.image_size, instances))
        except DatasetError as error:
            raise DatasetError(f"sample {sample.key}: {error}") from error
        chosen.append(instances)
    scene_images = np.stack([group[0] for group in images])
    if len(grids) == len(samples) * (1 + per_scene):
        zero = torch.zeros(())  # 131 kB a sequence would go from process to process for nothing
        scenes, of_instances = (zero.expand((len(samples) * k, *LATENT_SHAPE)) for k in (1, per_scene))
    else:
        scenes = torch.from_numpy(np.stack([group[0] for group in latents]))
        of_instances = torch.from_numpy(np.concatenate([group[1:] for group in latents]))
    batch = GroupBatch(
        scene_latents=scenes,
        instance_latents=of_instances,
        images=torch.from_numpy(np.concatenate([scene_images, *(group[1:] for group in images)])),
        scene_of=torch.arange(len(samples)).repeat_interleave(per_scene),
        instances=torch.from_numpy(np.concatenate(chosen)),
        keys=tuple(sample.key for sample in samples),
        positions=tuple(positions),
        grids=dict(sorted(grids.items())),
    )
    return source.encode(batch) if encode else batch


@dataclass(frozen=True, kw_only=True)
class GroupDraws:
    """The random numbers of one step on one rank."""

    t: Tensor
    """(S,) float32 in (0, 1)."""
    keep: Tensor
    """(S,) bool: False where the group is trained without its images."""
    noise_scene: Tensor
    """(S, C, R, R, R) float32, standard normal."""
    noise_instance: Tensor
    """(M, C, R, R, R) float32, independent of the scenes'."""

    def pin_memory(self) -> "GroupDraws":
        """See `GroupBatch.pin_memory`."""
        return GroupDraws(**{name: value.pin_memory() for name, value in vars(self).items()})


def group_draws(settings: RunSettings, batch: GroupBatch) -> GroupDraws:
    """Times, dropped conditions and noise of a batch, on the CPU.

    Each group's follow from the run's seed and the group's position alone, so they are the same on any device and
    number of ranks.
    """
    times, keeps, noises = [], [], []
    shape = batch.scene_latents.shape[1:]
    for group, position in enumerate(batch.positions):
        generator = torch.Generator().manual_seed(seeding.integer(settings.seed, position, "noise"))
        times.append(logit_normal_times(1, generator, mean=settings.optimiser.t_mean, std=settings.optimiser.t_std))
        keeps.append(keep_condition(1, settings.optimiser.condition_dropout, generator))
        sequences = 1 + int((batch.scene_of == group).sum())
        noises.append(torch.randn((sequences, *shape), generator=generator))
    return GroupDraws(
        t=torch.cat(times),
        keep=torch.cat(keeps),
        noise_scene=torch.stack([noise[0] for noise in noises]),
        noise_instance=torch.cat([noise[1:] for noise in noises]),
    )
