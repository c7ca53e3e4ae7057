"""From a recipe to its samples: labels from embree, pictures from an engine, voxels and latents from the meshes."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import AssetError, RenderError
from randscene.generator.blender_process import INSTALLATION_REASONS, BlenderProcess
from randscene.generator.cameras import intrinsics
from randscene.generator.geometry_cache import GeometryCache, mesh_bytes
from randscene.generator.guide_sampler import GuideSampler
from randscene.generator.guided_reconstruction import reconstruct
from randscene.generator.light_pictures import picture_paths
from randscene.generator.ray_caster import RayScene
from randscene.generator.recipe import SceneRecipe
from randscene.generator.render_device import protocol_device
from randscene.generator.rendered_view import RenderedView
from randscene.generator.stage_clock import StageClock
from randscene.generator.view_centric import apply_transform, world_to_view
from randscene.generator.visibility import VisibleView, keepable_views, label_view
from randscene.generator.voxelization import SceneVoxelizer
from randscene.manifests import AssetMesh, AssetRecord, DatasetSpec, load_asset_mesh, verified_path
from randscene.shards.view_sample import SCHEMA_VERSION, ViewSample, encode_depth

LABEL_TOLERANCE = 1e-3
"""Share of the pixels on which Blender's own object index may differ from the embree ids before a scene is refused."""


class SceneFailedError(Exception):
    """A scene that this recipe cannot become; another attempt may."""

    def __init__(self, reason: str, stage: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.stage = stage


@dataclass(frozen=True, kw_only=True)
class MadeScene:
    """The samples of one scene, and its geometry for evaluation."""

    samples: Iterator[ViewSample]
    """In view order, each made when it is asked for, while Blender renders the next: a scene of many views takes no
    more memory than one of few. Raises what `SceneMaker.make` does."""
    instances: list[tuple[NDArray[Any], NDArray[Any]]]
    """Per instance (vertices (V, 3) float64, world metres; faces (F, 3) int32)."""
    views: tuple[int, ...]
    """The views that show every instance, in ascending order, whether they were asked for or not."""


class SceneMaker:
    """Turns recipes into samples; holds what is dear to build (the Blender process, the encoder, loaded meshes).

    Parameters
    ----------
    spec : DatasetSpec
    records : Mapping[str, AssetRecord]
        The lock's usable records by uid.
    fingerprint : str
        Stored in every sample.
    clock : StageClock, optional
        Told how long each stage takes. `render` is the wait for the renderer, a process of its own.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        records: Mapping[str, AssetRecord],
        fingerprint: str,
        clock: StageClock | None = None,
    ) -> None:
        self._spec = spec
        self._records = records
        self._fingerprint = fingerprint
        self._open = contextlib.ExitStack()
        self._blender: BlenderProcess | None = None
        self._encoder: Any = None
        self._meshes = GeometryCache(self._load_mesh, mesh_bytes)
        self._clock = clock or StageClock()

    @property
    def renderer_pid(self) -> int | None:
        """Process id of the renderer, or None when none runs."""
        return None if self._blender is None else self._blender.pid

    def close(self) -> None:
        """End the Blender process, if one runs."""
        self._open.close()
        self._blender = None

    def make(self, recipe: SceneRecipe, *, most_views: int | None = None) -> MadeScene:
        """The samples of one scene; a view in which an instance has no visible pixel is not a sample.

        Parameters
        ----------
        recipe : SceneRecipe
        most_views : int, optional
            Make no more than so many samples, evenly spread over those that there could be.

        Raises
        ------
        SceneFailedError
            If the recipe itself is at fault: a bad mesh, no view that shows every instance, labels that disagree.
        RenderError
            If the renderer died or hung (`transient`: the same recipe may be tried again), or is not installed.
        """
        try:
            with self._clock.stage("load"):
                placed = [self.place(self._meshes.get(item.uid), np.asarray(item.pose)) for item in recipe.instances]
        except AssetError as error:
            raise SceneFailedError(error.reason, "load", str(error)) from error
        with self._clock.stage("label"):
            rays = RayScene(placed)
            keepable = keepable_views(rays, recipe.cameras, recipe.resolution)
        if not keepable:
            raise SceneFailedError("no_valid_view", "visibility", f"scene {recipe.scene}: no view shows every instance")
        geometry = [(mesh.vertices, mesh.faces) for mesh in placed]
        vertices = np.concatenate([mesh.vertices for mesh in placed])
        voxelizer = SceneVoxelizer(geometry)
        views = keepable if most_views is None else _spread(keepable, most_views)
        samples = (
            self._sample(recipe, view, rgb, vertices, voxelizer) for view, rgb in self._pictures(recipe, rays, views)
        )
        if self._spec.latents.encoder is not None:
            samples = (self._with_latents(sample) for sample in samples)
        return MadeScene(samples=samples, instances=geometry, views=tuple(keepable))

    def _load_mesh(self, uid: str) -> AssetMesh:
        record = self._records[uid]
        return load_asset_mesh(verified_path(record), up_axis=record.up_axis)

    @staticmethod
    def place(mesh: AssetMesh, pose: NDArray[Any]) -> AssetMesh:
        """The mesh in the world: `pose` (4, 4) takes the asset frame to world metres."""
        return replace(mesh, vertices=apply_transform(pose, mesh.vertices))

    def _pictures(
        self, recipe: SceneRecipe, rays: RayScene, views: list[int]
    ) -> Iterator[tuple[VisibleView, NDArray[Any]]]:
        if self._spec.render.engine == "raycast":
            for number in views:
                with self._clock.stage("render"):
                    picture = rays.shade(recipe.cameras[number], recipe.resolution, recipe.lights, recipe.background)
                with self._clock.stage("label"):
                    view = label_view(rays, recipe.cameras, number, recipe.resolution)
                yield view, picture
            return
        records = {instance.uid: self._records[instance.uid] for instance in recipe.instances}
        paths = {uid: verified_path(record) for uid, record in records.items()}
        missing = set(views)
        # A card traces so many samples that its pictures need no reconstruction.
        traced = self._spec.render.engine == "cycles" and self._spec.render.device == "cpu"
        sampler = GuideSampler(rays) if traced else None
        samples = self._spec.render.samples_a_pixel
        try:
            pictures = self._blender_process().render(
                recipe,
                paths,
                views,
                resolution=recipe.resolution,
                samples=samples,
                engine=self._spec.render.engine,
                device=protocol_device(self._spec.render),
                up_axes={uid: record.up_axis for uid, record in records.items()},
                images=picture_paths(recipe.background, self._spec.lights),
                layers=traced,
            )
            for rendered in self._timed("render", pictures):
                missing.remove(rendered.view)
                # Made while Blender renders the next view, and not kept longer than this one.
                with self._clock.stage("label"):
                    view = label_view(rays, recipe.cameras, rendered.view, recipe.resolution)
                differing = 0.0 if rendered.ids is None else float(np.mean(rendered.ids != view.ids))
                if differing > LABEL_TOLERANCE:
                    raise SceneFailedError(
                        "label_mismatch",
                        "render",
                        f"scene {recipe.scene}, view {view.view}: Blender and embree disagree on "
                        f"{100 * differing:.2f} % of the pixels; an asset reads differently in the two",
                    )
                rgb = rendered.rgb
                if sampler is not None and rendered.layers is not None:
                    camera = recipe.cameras[rendered.view]
                    floor = recipe.ground is not None and camera.camera_to_world[2][3] > 0
                    with self._clock.stage("reconstruct"):
                        rgb = reconstruct(rendered.layers, sampler, camera, recipe.resolution, samples, floor=floor)
                if rgb is None:
                    raise RenderError("bad_answer", f"the renderer made nothing of view {rendered.view}")
                yield view, rgb
        except RenderError as error:
            if error.transient or error.reason in INSTALLATION_REASONS:
                raise
            raise SceneFailedError(error.reason, "render", str(error)) from error
        if missing:
            raise RenderError("missing_views", f"Blender left out views {sorted(missing)}", transient=True)

    def _timed(self, stage: str, items: Iterator[RenderedView]) -> Iterator[RenderedView]:
        """The same items; the time that each takes to come counts for `stage`."""
        while True:
            with self._clock.stage(stage):
                item = next(items, None)
            if item is None:
                return
            yield item

    def _blender_process(self) -> BlenderProcess:
        if self._blender is None:
            render = self._spec.render
            limit = render.memory_limit_gib
            self._blender = self._open.enter_context(
                BlenderProcess(
                    threads=render.threads,
                    view_timeout_s=render.view_timeout_s,
                    scene_timeout_s=render.scene_timeout_s,
                    memory_limit_bytes=None if limit is None else int(limit * 2**30),
                    recycle_scenes=render.recycle_scenes,
                )
            )
        return self._blender

    def _sample(
        self,
        recipe: SceneRecipe,
        view: VisibleView,
        rgb: NDArray[Any],
        vertices: NDArray[Any],
        voxelizer: SceneVoxelizer,
    ) -> ViewSample:
        camera = recipe.cameras[view.view]
        frame = self._spec.frame
        transform = world_to_view(
            np.asarray(camera.camera_to_world),
            np.asarray(recipe.look_at),
            vertices,
            frame=frame.name,
            azimuth_offset_deg=frame.azimuth_offset_deg,
        )
        with self._clock.stage("voxelise"):
            coords, offsets = voxelizer.view(transform)
        depth, depth_code = encode_depth(view.depth) if self._spec.shards.depth else (None, None)
        instances = [
            {
                "uid": instance.uid,
                "licence": self._records[instance.uid].licence,
                "attribution": self._records[instance.uid].attribution,
                "visible_pixels": int(view.visible_pixels[position]),
                "unoccluded_pixels": int(view.unoccluded_pixels[position]),
                "pose": instance.pose,
                "support_parent": instance.support_parent,
            }
            for position, instance in enumerate(recipe.instances)
        ]
        meta = {
            "schema": SCHEMA_VERSION,
            "scene": recipe.scene,
            "view": view.view,
            "split": recipe.split,
            "attempt": recipe.attempt,
            "camera_to_world": camera.camera_to_world,
            "fov_deg": camera.fov_deg,
            "intrinsics": intrinsics(camera.fov_deg, recipe.resolution).tolist(),
            "look_at": recipe.look_at,
            "frame": frame.name,
            "azimuth_offset_deg": frame.azimuth_offset_deg,
            "world_to_view": transform.tolist(),
            "instances": instances,
            "engine": self._spec.render.engine,
            "encoder": None,
            "depth": depth_code,
            "fingerprint": self._fingerprint,
        }
        return ViewSample(rgb=rgb, ids=view.ids, coords=coords, offsets=offsets, meta=meta, depth=depth)

    def _with_latents(self, sample: ViewSample) -> ViewSample:
        # Only builds with latents need torch.
        import torch

        from randscene.train import encode_voxels, load_encoder

        if self._encoder is None:
            torch.set_num_threads(self._spec.render.threads)
            self._encoder = load_encoder(str(self._spec.latents.encoder))
        grids = [sample.scene_coords(), *(sample.instance_coords(i + 1) for i in range(sample.n_instances))]
        meta = {**sample.meta, "encoder": {"name": self._encoder.name, "sha256": self._encoder.sha256}}
        with self._clock.stage("latents"):
            latents = encode_voxels(self._encoder, grids)
        return replace(sample, latents=latents, meta=meta)


def _spread(views: list[int], most: int) -> list[int]:
    """At most so many of the views, evenly spread."""
    count = min(most, len(views))
    return [views[(2 * i + 1) * len(views) // (2 * count)] for i in range(count)]
