"""Ground truth of a dataset's views: true meshes and true voxels, instance by instance, in the view-centric cube."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import AssetError, DatasetError
from randscene.shards.view_sample import ViewSample
from randscene.train.triangle_mesh import TriangleMesh, glb_header, join, read_glb

_NODE = re.compile(r"instance_(\d+)")
_SLACK = 0.01
"""A view's frame puts the scene's box around the origin with largest side 1. A file whose box is off by more than this,
in cube sides, is of another scene or another frame."""


@dataclass(frozen=True, kw_only=True)
class TrueScene:
    """The geometry of one view's truth, and how other frames lead to its cube."""

    meshes: list[TriangleMesh]
    """In id order, view-centric, Z-up, in the cube [-0.5, 0.5]^3."""
    world_to_view: NDArray[Any]
    """(4, 4) float64: the truth's world, Z-up, to that cube; scale included."""
    camera_to_world: NDArray[Any] | None
    """(4, 4) float64, Blender's camera (looks down -Z, +Y up); None if the truth has none."""


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """What one view should have become. Small: the meshes are read from their file when asked for."""

    key: str
    """`{scene:06d}_{view:03d}`."""
    glb: Path
    """The scene's true geometry: one node an instance (`instance_01`, ...), world metres, glTF Y-up."""
    frame: str
    """`yaw`, `full` or `canonical`."""
    world_to_view: NDArray[Any]
    """(4, 4) float64: world metres, Z-up, to the view-centric cube [-0.5, 0.5]^3; scale included."""
    coords: NDArray[Any]
    """(V, 3) uint8 surface voxels, instance after instance."""
    offsets: NDArray[Any]
    """(N + 1,) int32: instance i's voxels are `coords[offsets[i - 1]:offsets[i]]`."""
    camera_to_world: NDArray[Any] | None = None
    """(4, 4) float64, metres, Blender's camera; None if the sample does not say."""
    split: str | None = None
    """The split that the sample belongs to."""
    uids: tuple[str, ...] | None = None
    """What each instance is a copy of, in id order; None if the sample does not say."""

    @property
    def n_instances(self) -> int:
        return len(self.offsets) - 1

    @property
    def has_camera(self) -> bool:
        return self.camera_to_world is not None

    def check_file(self) -> None:
        """Look whether the true meshes are there, without reading them.

        Raises
        ------
        DatasetError
            If the file is missing or is not a whole GLB.
        """
        if not self.glb.is_file():
            raise DatasetError(
                f"{self.glb} is missing: only splits made for evaluation carry true meshes; "
                f"score views of such a split, or generate the dataset with its ground truth"
            )
        try:
            glb_header(self.glb)
        except AssetError as error:
            raise DatasetError(f"ground truth of {self.key}: {error}") from error

    def meshes(self) -> list[TriangleMesh]:
        """The instances' meshes in id order, view-centric, Z-up, in the cube [-0.5, 0.5]^3.

        Raises
        ------
        DatasetError
            If the file is missing or broken, holds other instances than the sample, or does not fill the cube.
        """
        self.check_file()
        try:
            nodes = read_glb(self.glb)
        except AssetError as error:
            raise DatasetError(f"ground truth of {self.key}: {error}") from error
        numbered = {name: _NODE.fullmatch(name) for name in nodes}
        if odd := [name for name, found in numbered.items() if found is None]:
            raise DatasetError(f"{self.glb}: node {odd[0]!r} is no instance; expected instance_01, instance_02, ...")
        by_id = {int(found.group(1)): nodes[name] for name, found in numbered.items() if found is not None}
        if sorted(by_id) != list(range(1, self.n_instances + 1)):
            raise DatasetError(
                f"{self.glb} holds instances {sorted(by_id)}, the sample {self.key} has {self.n_instances}: "
                f"they are not of one scene"
            )
        meshes = [by_id[number].moved(self.world_to_view) for number in range(1, self.n_instances + 1)]
        for number, mesh in enumerate(meshes, start=1):
            if problem := mesh.problem():
                raise DatasetError(f"{self.glb}: instance {number} cannot be scored against: {problem}")
        vertices = join(meshes).vertices
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        if np.abs(low + high).max() / 2 > _SLACK or abs(float((high - low).max()) - 1) > _SLACK:
            raise DatasetError(
                f"{self.glb} does not fill the cube in the frame of {self.key} "
                f"(box {low.round(3)} to {high.round(3)}): it is another scene's file or not in world metres, Y-up"
            )
        return meshes

    def scene(self) -> TrueScene:
        """The meshes together with the view's frame; raises as `meshes` does."""
        return TrueScene(meshes=self.meshes(), world_to_view=self.world_to_view, camera_to_world=self.camera_to_world)


def ground_truth(sample: ViewSample, root: Path) -> GroundTruth:
    """The truth that belongs to one sample of the dataset at `root`.

    Raises
    ------
    DatasetError
        If the sample's json lacks a field or contradicts its voxels.
    """
    meta = sample.meta
    try:
        scene, frame = int(meta["scene"]), str(meta["frame"])
        matrix = np.asarray(meta["world_to_view"], dtype=np.float64)
        instances = len(meta["instances"])
        uids = [one.get("uid") for one in meta["instances"]]
        placed, split = meta.get("camera_to_world"), meta.get("split")
        camera = None if placed is None else np.asarray(placed, dtype=np.float64)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"a sample of {root} has a broken json member: {error!r}") from error
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise DatasetError(f"sample {sample.key} of {root}: world_to_view is not a finite 4x4 matrix")
    if camera is not None and (camera.shape != (4, 4) or not np.isfinite(camera).all()):
        raise DatasetError(f"sample {sample.key} of {root}: camera_to_world is not a finite 4x4 matrix")
    if instances != sample.n_instances:
        raise DatasetError(
            f"sample {sample.key} of {root} names {instances} instances but holds voxels of {sample.n_instances}"
        )
    return GroundTruth(
        key=sample.key,
        glb=root / "scenes" / f"{scene:06d}.glb",
        frame=frame,
        world_to_view=matrix,
        coords=sample.coords,
        offsets=sample.offsets,
        camera_to_world=camera,
        split=None if split is None else str(split),
        uids=None if None in uids else tuple(map(str, uids)),
    )


def read_ground_truth(dataset: Path, keys: Iterable[str] | None = None, split: str | None = None) -> list[GroundTruth]:
    """The truth of a dataset's views.

    Parameters
    ----------
    dataset : Path
        Dataset folder.
    keys : iterable of str, optional
        Only these samples, in this order; all by default.
    split : str, optional
        Only samples of this split; of all splits by default.

    Returns
    -------
    list of GroundTruth

    Raises
    ------
    DatasetError
        If the dataset cannot be read or lacks one of `keys`.
    """
    from randscene.shards import open_dataset

    samples = open_dataset(dataset, split=split)
    positions = {key: position for position, key in enumerate(samples.keys)}
    wanted = list(positions) if keys is None else list(keys)
    if absent := [key for key in wanted if key not in positions]:
        where = f"{dataset}, split {split}" if split else f"{dataset}"
        raise DatasetError(
            f"{where} has no sample {absent[0]}"
            + (f" (nor {len(absent) - 1} others that were asked for)" if len(absent) > 1 else "")
            + ": the predictions were made for another dataset or split"
        )
    return [ground_truth(samples[positions[key]], Path(dataset)) for key in wanted]
