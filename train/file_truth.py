"""A truth that is a file an instance, or a geometry an instance of one file, brought into a view-centric cube."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import AssetError, DatasetError
from randscene.train.ground_truth import TrueScene
from randscene.train.output_layouts import Piece, UpAxis
from randscene.train.triangle_mesh import TriangleMesh, cube_transform, glb_header, join, read_glb_geometries, z_up
from randscene.train.yaw_rotation import yaw_rotation


@dataclass(frozen=True, kw_only=True)
class FileTruth:
    """One scene whose truth is a file an instance, or a geometry an instance of one file. Small: see `scene`."""

    key: str
    pieces: tuple[Piece, ...]
    """In id order."""
    up_axis: UpAxis
    camera_to_world: NDArray[Any] | None
    """(4, 4) float64, world Z-up, Blender's camera. With it the cube is the view's, in the frame `yaw`; without, the
    scene keeps its axes and its box is centred and scaled to fill the cube."""
    split: str | None = None
    coords: None = None
    """No voxels."""
    uids: None = None
    """Files do not say which of them are copies of one object."""

    @property
    def n_instances(self) -> int:
        return len(self.pieces)

    @property
    def has_camera(self) -> bool:
        return self.camera_to_world is not None

    def check_file(self) -> None:
        """Look whether the true meshes are there, without reading them.

        Raises
        ------
        DatasetError
            If a file is missing or is not a whole GLB.
        """
        for path in dict.fromkeys(piece.path for piece in self.pieces):
            try:
                glb_header(path)
            except AssetError as error:
                raise DatasetError(f"ground truth of {self.key}: {error}") from error

    def scene(self) -> TrueScene:
        """The meshes in the cube.

        Raises
        ------
        DatasetError
            If a file is missing or broken, or an instance cannot be scored against.
        """
        whole: dict[Path, list[TriangleMesh]] = {}
        meshes = []
        for piece in self.pieces:
            if piece.path not in whole:
                try:
                    whole[piece.path] = read_glb_geometries(piece.path)
                except AssetError as error:
                    raise DatasetError(f"ground truth of {self.key}: {error}") from error
            parts = whole[piece.path]
            mesh = join(parts) if piece.place is None else parts[piece.place]
            if problem := mesh.problem():
                raise DatasetError(
                    f"ground truth of {self.key}: instance {piece.number} ({piece.path.name}) cannot be scored "
                    f"against: {problem}"
                )
            meshes.append(z_up(mesh) if self.up_axis == "Y" else mesh)
        vertices = np.concatenate([mesh.vertices[mesh.faces].reshape(-1, 3) for mesh in meshes])
        rotation = np.eye(3)
        if self.camera_to_world is not None:
            rotation = heading_rotation(self.camera_to_world, (vertices.min(axis=0) + vertices.max(axis=0)) / 2)
        to_view = cube_transform(vertices, rotation)
        return TrueScene(
            meshes=[mesh.moved(to_view) for mesh in meshes],
            world_to_view=to_view,
            camera_to_world=self.camera_to_world,
        )


def heading_rotation(camera_to_world: NDArray[Any], middle: NDArray[Any]) -> NDArray[Any]:
    """(3, 3) turn about Z that puts the camera on the -Y side: right in the picture is +X, away from it +Y.

    Parameters
    ----------
    camera_to_world : (4, 4) float
        World Z-up, Blender's camera.
    middle : (3,) float
        Of the scene's box. The camera is taken to look at the point of its axis that is nearest to it, or at the middle
        itself if that lies behind the camera.

    Raises
    ------
    DatasetError
        If the camera looks straight up or down and its right axis is vertical, too.
    """
    right, backwards = camera_to_world[:3, 0], camera_to_world[:3, 2]
    arm = backwards if (middle - camera_to_world[:3, 3]) @ backwards < 0 else camera_to_world[:3, 3] - middle
    rotation = yaw_rotation(arm, right)
    if rotation is None:
        raise DatasetError("a camera looks straight up or down and its right axis is vertical: it has no heading")
    return rotation


def file_truth(key: str, pieces: Sequence[Piece], up_axis: UpAxis, camera: NDArray[Any] | None) -> FileTruth:
    """The truth made of these pieces; raises DatasetError if there is none."""
    if not pieces:
        raise DatasetError(f"ground truth of {key} holds no instance")
    return FileTruth(key=key, pieces=tuple(pieces), up_axis=up_axis, camera_to_world=camera)


def chosen_keys(dataset: Path, every: Sequence[str], keys: Sequence[str] | None) -> list[str]:
    """`keys`, or `every` key if none are asked for; raises DatasetError if one is not there."""
    if keys is None:
        return list(every)
    there = set(every)
    if absent := [key for key in keys if key not in there]:
        raise DatasetError(
            f"{dataset} has no scene {absent[0]}"
            + (f" (nor {len(absent) - 1} others that were predicted)" if len(absent) > 1 else "")
            + ": the predictions were made for another truth, or a file is no prediction"
        )
    return list(keys)
