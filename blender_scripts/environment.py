"""The world's light: uniform, or an equirectangular picture turned about Z and scaled to a mean luminance."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from randscene.blender_scripts.compat import apply_settings, enable_nodes
from randscene.blender_scripts.scene_description import SceneDescription, WorldImage
from randscene.errors import RenderError, first_line

LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Weights of linear red, green and blue (ITU-R BT.709)."""

MAX_PIXELS = 2**25
"""Of a picture: 8,192 x 4,096. Larger ones cost a worker gigabytes and light a scene no better."""

SAMPLING_WIDTH = 2048
"""Width of the map by which Cycles aims at the bright parts. The sun is three of its pixels wide; a map of twice the
size takes a second more to build."""


class WorldMaker:
    """Makes worlds; remembers the mean luminance of the pictures that it has met."""

    def __init__(self) -> None:
        self._means: dict[str, float] = {}

    def make(self, description: SceneDescription, images: Mapping[str, str]) -> Any:
        """A bpy.types.World for a scene.

        Parameters
        ----------
        description : SceneDescription
        images : mapping
            Absolute path of the file of each SHA-256 that the description may name.

        Raises
        ------
        RenderError
            `bad_request` if the picture's path is not given, `image_changed` if the file has another SHA-256,
            `image_unreadable` if it cannot be read, is too large, or has no light that could be scaled.
        """
        world = bpy.data.worlds.new("world")
        enable_nodes(world)
        tree = world.node_tree
        tree.nodes.clear()
        background = tree.nodes.new("ShaderNodeBackground")
        tree.links.new(background.outputs["Background"], tree.nodes.new("ShaderNodeOutputWorld").inputs["Surface"])
        if description.world_image is None:
            background.inputs["Color"].default_value = (*description.world_color, 1.0)
            background.inputs["Strength"].default_value = description.world_strength
            return world
        image = self._load(description.world_image, images)
        mean = self._means[description.world_image.sha256]
        background.inputs["Strength"].default_value = description.world_strength / mean
        texture = tree.nodes.new("ShaderNodeTexEnvironment")
        apply_settings(texture, projection="EQUIRECTANGULAR", interpolation="Linear")
        texture.image = image
        width = min(image.size[0], SAMPLING_WIDTH)
        apply_settings(world.cycles, sampling_method="MANUAL", sample_map_resolution=width)
        mapping = tree.nodes.new("ShaderNodeMapping")
        mapping.vector_type = "POINT"
        # Directions are turned back into the picture's own.
        mapping.inputs["Rotation"].default_value = (0.0, 0.0, -2 * math.pi * description.world_image.turns)
        coordinates = tree.nodes.new("ShaderNodeTexCoord")
        tree.links.new(coordinates.outputs["Generated"], mapping.inputs["Vector"])
        tree.links.new(mapping.outputs["Vector"], texture.inputs["Vector"])
        tree.links.new(texture.outputs["Color"], background.inputs["Color"])
        return world

    def _load(self, wanted: WorldImage, images: Mapping[str, str]) -> Any:
        """The checked picture as a bpy.types.Image; its mean luminance is known afterwards."""
        if wanted.sha256 not in images:
            raise RenderError("bad_request", f"no file is named for the picture {wanted.name}")
        path = images[wanted.sha256]
        try:
            with open(path, "rb") as handle:
                found = hashlib.file_digest(handle, "sha256").hexdigest()
        except OSError as error:
            raise _unreadable(path, error.strerror or str(error)) from error
        if found != wanted.sha256:
            raise RenderError("image_changed", f"{path} is no longer the picture that was planned with: put it back")
        try:
            image = bpy.data.images.load(path)
        except RuntimeError as error:
            raise _unreadable(path, first_line(error)) from error
        image.colorspace_settings.name = "Linear Rec.709"
        if wanted.sha256 not in self._means:
            width, height = image.size
            if not width * height:
                raise _unreadable(path, "it is broken or not of its ending's format")
            if width * height > MAX_PIXELS:
                raise _unreadable(path, f"it has {width} x {height} pixels, more than {MAX_PIXELS}: scale it down")
            pixels = np.empty(width * height * image.channels, np.float32)
            image.pixels.foreach_get(pixels)
            # Cycles reads the file itself.
            image.buffers_free()
            mean = mean_luminance(pixels.reshape(height, width, image.channels))
            if not 1e-6 < mean < 1e9:
                raise _unreadable(
                    path, f"its mean luminance is {mean:g}: it is black, or has pixels that are no number"
                )
            self._means[wanted.sha256] = mean
        return image


def mean_luminance(pixels: NDArray[Any]) -> float:
    """Mean luminance of an equirectangular picture over the sphere, each row weighted by its solid angle.

    Parameters
    ----------
    pixels : numpy.ndarray
        (H, W, C) float32, linear; C is 1 or 2 (grey), 3 or 4 (RGB first). Which pole comes first does not matter.
    """
    edges = np.sin(np.linspace(-np.pi / 2, np.pi / 2, len(pixels) + 1))
    rows = pixels.mean(axis=1, dtype=np.float64)
    luminance = rows[:, :3] @ LUMINANCE if rows.shape[1] > 2 else rows[:, 0]
    return float(np.diff(edges) @ luminance / 2)


def _unreadable(path: str, why: str) -> RenderError:
    return RenderError("image_unreadable", f"the picture {path} cannot be used: {why}")
