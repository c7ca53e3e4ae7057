"""Build the Blender scene that a description asks for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from randscene.blender_scripts.asset_cache import AssetCache
from randscene.blender_scripts.compat import apply_settings
from randscene.blender_scripts.environment import WorldMaker
from randscene.blender_scripts.framing import Window, scene_window
from randscene.blender_scripts.ground_plane import ground_mesh
from randscene.blender_scripts.scene_description import LightSource, SceneDescription, Viewpoint
from randscene.convex_hull import hull_points
from randscene.errors import RenderError

SENSOR_MM = 32.0


@dataclass(frozen=True, kw_only=True)
class BuiltScene:
    """A Blender scene, ready for an engine."""

    scene: Any
    """bpy.types.Scene."""
    camera: Any
    """bpy.types.Object."""
    points: NDArray[Any]
    """(P, 3) float64: vertices of the assets that span their convex hull, world metres."""
    ground: Any = None
    """bpy.types.Object of the floor, or None. It is in no label."""

    def covers_picture(self, viewpoint: Viewpoint) -> bool:
        """Whether more of the picture than what `points` reach may be covered: the floor is seen from above it."""
        return self.ground is not None and viewpoint.camera_to_world[2, 3] > 0

    def aim(self, viewpoint: Viewpoint) -> Window | None:
        """Move the camera, and have only the window rendered that the scene can reach; it follows from the view alone.

        Seen from below, the scene has no floor. Returns None, and does nothing, where there is nothing to see.
        """
        resolution = self.scene.render.resolution_x
        covers = self.covers_picture(viewpoint)
        whole = Window(left=0, right=resolution, bottom=0, top=resolution)
        window = whole if covers else scene_window(self.points, viewpoint, resolution)
        if window is None:
            return None
        if self.ground is not None:
            self.ground.hide_render = not covers
        self.camera.data.lens = SENSOR_MM / 2 / math.tan(math.radians(viewpoint.fov_deg) / 2)
        self.camera.matrix_parent_inverse = Matrix(viewpoint.camera_to_world.tolist())
        # Blender truncates the border to whole pixels: aim at their middle.
        apply_settings(
            self.scene.render,
            use_border=True,
            border_min_x=(window.left + 0.25) / resolution,
            border_max_x=min((window.right + 0.25) / resolution, 1.0),
            border_min_y=(window.bottom + 0.25) / resolution,
            border_max_y=min((window.top + 0.25) / resolution, 1.0),
        )
        return window


class SceneBuilder:
    """Makes one scene at a time out of cached assets."""

    def __init__(self) -> None:
        bpy.ops.wm.read_factory_settings(use_empty=True)
        self._cache = AssetCache()
        self._worlds = WorldMaker()

    def build(
        self,
        description: SceneDescription,
        paths: Mapping[str, str],
        up_axes: Mapping[str, str],
        images: Mapping[str, str],
    ) -> BuiltScene:
        """A new scene with linked copies of the assets, lights, world, floor and camera.

        Each object's `pass_index` is its instance's id. Meshes are shared between instances of one asset, never
        copied. Call `clear` when done with it.

        Raises
        ------
        RenderError
            `bad_request` if a uid has no path, `import_failed` or `no_geometry` for a file that cannot be used; for
            the picture that lights the scene see `WorldMaker.make`.
        """
        missing = [item.uid for item in description.assets if item.uid not in paths]
        if missing:
            raise RenderError("bad_request", f"no file is named for the asset {missing[0]}")
        # All imports come first: the importers work in Blender's current scene, not in the new one.
        assets = {
            uid: self._cache.get(paths[uid], up_axes.get(uid)) for uid in {a.uid: None for a in description.assets}
        }
        scene = bpy.data.scenes.new("scene")
        stage = _Stage(scene)
        points = []
        for number, placed in enumerate(description.assets, start=1):
            for part in assets[placed.uid].parts:
                world = placed.pose @ part.matrix
                item = stage.add(f"{number:03d}", part.mesh, world)
                item.pass_index = number
                points.append(part.vertices @ world[:3, :3].T + world[:3, 3])
        for light in description.lights:
            item = stage.add("light", _light(light), _light_matrix(light))
            item.visible_camera = False
        camera = stage.add("camera", bpy.data.cameras.new("camera"), np.eye(4))
        # Wide limits: a picture must not lose what the labels' rays hit.
        apply_settings(
            camera.data, type="PERSP", sensor_fit="HORIZONTAL", sensor_width=SENSOR_MM, clip_start=1e-3, clip_end=1e5
        )
        scene.camera = camera
        scene.world = self._worlds.make(description, images)
        everything = hull_points(np.concatenate(points))
        ground = None
        if description.ground is not None:
            ground = stage.add("ground", ground_mesh(everything, description.ground), np.eye(4))
        return BuiltScene(scene=scene, camera=camera, points=everything, ground=ground)

    def clear(self) -> None:
        """Remove every scene but the empty one that imports use, and assets over the memory budget."""
        keep = bpy.context.scene
        for scene in [scene for scene in bpy.data.scenes if scene != keep]:
            # Ends the render session that Cycles keeps between the views of a scene.
            scene.render.use_persistent_data = False
            bpy.data.batch_remove(list(scene.collection.all_objects))
            bpy.data.scenes.remove(scene)
        bpy.data.orphans_purge(do_recursive=True)
        self._cache.trim()


class _Stage:
    """Adds objects to a scene at exact world matrices."""

    def __init__(self, scene: Any) -> None:
        self._scene = scene
        self._root = bpy.data.objects.new("root", None)
        scene.collection.objects.link(self._root)

    def add(self, name: str, data: Any, world: NDArray[Any]) -> Any:
        item = bpy.data.objects.new(name, data)
        # An object's own location, rotation and scale cannot hold shear; the parent's inverse holds any matrix.
        item.parent = self._root
        item.matrix_parent_inverse = Matrix(world.tolist())
        self._scene.collection.objects.link(item)
        return item


def _light(light: LightSource) -> Any:
    data = bpy.data.lights.new("light", light.kind.upper())
    data.color = light.color
    data.energy = light.power
    if light.kind == "point":
        apply_settings(data, shadow_soft_size=light.size, use_soft_falloff=False)
    elif light.kind == "sun":
        data.angle = light.size
    else:
        apply_settings(data, shape="SQUARE", size=light.size)
    return data


def _light_matrix(light: LightSource) -> NDArray[Any]:
    """(4, 4) float64: Blender's lights shine along their -Z."""
    matrix = np.eye(4)
    matrix[:3, 3] = light.position
    if light.kind == "point":
        return matrix
    z = light.position - light.target
    z /= np.linalg.norm(z)
    helper = np.eye(3)[np.argmin(np.abs(z))]
    x = np.cross(helper, z)
    x /= np.linalg.norm(x)
    matrix[:3, :3] = np.column_stack([x, np.cross(z, x), z])
    return matrix
