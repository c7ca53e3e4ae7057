"""Small meshes and cameras for tests with rays."""

from dataclasses import replace

import numpy as np

from randscene.generator.cameras import Directions, look_at_matrices
from randscene.generator.recipe import Background, Camera
from randscene.manifests.asset_mesh import AssetMesh, Surface

SQUARE = np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
TWO = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
BOX = np.array([[x, y, z] for x in (-1.0, 1) for y in (-1.0, 1) for z in (-1.0, 1)])
TWELVE = np.array(
    [
        *([0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]),
        *([2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]),
    ],
    np.int32,
)
DARK = Background(color=(1.0, 1.0, 1.0), strength=0.0)


def surface(**changes: object) -> Surface:
    plain = Surface(
        base_color=np.array([0.5, 0.5, 0.5, 1], np.float32),
        texture=None,
        metallic=0.0,
        roughness=1.0,
        emissive=np.zeros(3, np.float32),
        alpha_mode="OPAQUE",
        alpha_cutoff=0.5,
    )
    return replace(plain, **changes)


def mesh(vertices: np.ndarray, faces: np.ndarray, **changes: object) -> AssetMesh:
    return AssetMesh(
        vertices=np.asarray(vertices, np.float64),
        faces=faces,
        surface_of_face=np.zeros(len(faces), np.int32),
        surfaces=(surface(**changes),),
        uv=np.zeros((len(faces), 3, 2), np.float32),
        corner_color=None,
    )


def square(z: float = 0.0, half: float = 1.0, **changes: object) -> AssetMesh:
    """A square that faces +Z, its texture's top left at (-half, +half)."""
    uv = (SQUARE[:, :2] * (0.5, -0.5) + 0.5).astype(np.float32)
    return replace(mesh(SQUARE * half + (0, 0, z), TWO, **changes), uv=uv[TWO])


def box(centre: tuple[float, float, float], half: float = 0.5, **changes: object) -> AssetMesh:
    return mesh(BOX * half + centre, TWELVE, **changes)


def camera(turns: float, height: float, distance: float = 5.0, fov_deg: float = 40.0) -> Camera:
    matrix = look_at_matrices(Directions(turns=np.array([turns]), height=np.array([height])), (0, 0, 0), distance)[0]
    return Camera(camera_to_world=tuple(map(tuple, matrix.tolist())), fov_deg=fov_deg)


# Looks straight down with the picture's right along +X and its top along +Y.
ABOVE = camera(0.75, 1.0)


def checker() -> np.ndarray:
    """(2, 2, 4) uint8: red, opaque at the top left and the bottom right, clear elsewhere."""
    texture = np.zeros((2, 2, 4), np.uint8)
    texture[..., 0] = 255
    texture[[0, 1], [0, 1], 3] = 255
    return texture


def checkers(side: int = 8) -> np.ndarray:
    """(side, side, 4) uint8: black and white, opaque."""
    texture = np.zeros((side, side, 4), np.uint8)
    texture[..., 3] = 255
    texture[::2, ::2, :3] = texture[1::2, 1::2, :3] = 255
    return texture
