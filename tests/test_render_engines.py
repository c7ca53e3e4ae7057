"""Engines and devices of the renderer: what is missing is refused in one line, and EEVEE draws the same scene."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import trimesh

from randscene.blender_scripts import opengl, protocol
from randscene.blender_scripts.opengl import OpenGLRenderer, probe_opengl, require_device
from randscene.errors import RenderError
from randscene.generator.blender_process import INSTALLATION_REASONS, BlenderProcess, RenderedView
from randscene.generator.ray_caster import RayScene
from randscene.generator.recipe import Background, Camera, Instance, LayoutFacts, Light, SceneRecipe
from randscene.generator.scene_maker import SceneMaker
from randscene.manifests import load_asset_mesh

RESOLUTION = 64


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> tuple[SceneRecipe, dict[str, Path]]:
    """Two boxes, one red and one pale, that a camera sees from above."""
    folder = tmp_path_factory.mktemp("glb")
    paths, instances = {}, []
    for place, (uid, color) in enumerate({"red": (200, 30, 30), "pale": (210, 210, 210)}.items()):
        mesh = trimesh.creation.box((1.0, 1.0, 1.0))
        material = trimesh.visual.material.PBRMaterial(
            baseColorFactor=[*color, 255], metallicFactor=0.0, roughnessFactor=0.9
        )
        mesh.visual = trimesh.visual.TextureVisuals(material=material)
        paths[uid] = folder / f"{uid}.glb"
        mesh.export(paths[uid])
        pose = (
            (1.0, 0.0, 0.0, 1.5 * place - 0.7),
            (0.0, 1.0, 0.0, 0.2 * place),
            (0.0, 0.0, 1.0, 0.0),
            (0.0, 0, 0, 1.0),
        )
        instances.append(Instance(uid=uid, sha256="0" * 64, scale=1.0, pose=pose, support_parent=None))
    back = np.array([0.3, -0.8, 0.5]) / np.linalg.norm([0.3, -0.8, 0.5])
    right = np.cross([0, 0, 1], back) / np.linalg.norm(np.cross([0, 0, 1], back))
    matrix = np.eye(4)
    matrix[:3] = np.column_stack([right, np.cross(back, right), back, 4.5 * back])
    lamp = Light(
        kind="area", position=(2.0, -3.0, 5.0), target=(0.0, 0.0, 0.0), power=300.0, size=1.0, color=(1.0, 1.0, 1.0)
    )
    recipe = SceneRecipe(
        version=1,
        scene=0,
        split="train",
        attempt=0,
        seed=0,
        instances=tuple(instances),
        lights=(lamp,),
        background=Background(color=(1.0, 1.0, 1.0), strength=0.5),
        look_at=(0.0, 0.0, 0.0),
        cameras=(Camera(camera_to_world=tuple(tuple(row) for row in matrix.tolist()), fov_deg=40.0),),
        resolution=RESOLUTION,
        layout=LayoutFacts(disc_instances=(), radii=(), centres=(), gap=0.0, region=1.0, expansions=0, tries=0),
    )
    return recipe, paths


@pytest.fixture(scope="module")
def blender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlenderProcess]:
    with BlenderProcess(scratch=tmp_path_factory.mktemp("scratch"), view_timeout_s=240.0) as process:
        yield process


def draw(
    process: BlenderProcess, boxes: tuple[SceneRecipe, dict[str, Path]], engine: str, device: str, samples: int = 2
) -> RenderedView:
    recipe, paths = boxes
    pictures = process.render(recipe, paths, [0], resolution=RESOLUTION, samples=samples, engine=engine, device=device)
    (picture,) = pictures
    return picture


def foreground(recipe: SceneRecipe, paths: dict[str, Path]) -> np.ndarray:
    """(R, R) uint8 ids from rays."""
    meshes = [SceneMaker.place(load_asset_mesh(paths[item.uid]), np.asarray(item.pose)) for item in recipe.instances]
    return RayScene(meshes).ids_and_depth(recipe.cameras[0], RESOLUTION)[0]


def request(**changes: object) -> bytes:
    fields = {
        "type": "render",
        "job": "1",
        "recipe": {},
        "assets": {},
        "views": [0],
        "resolution": 64,
        "samples": 1,
        "threads": 1,
        "out": "/",
    }
    return json.dumps({**fields, **changes}).encode()


@pytest.mark.parametrize(
    "changes", [{"engine": "crayon"}, {"device": "TPU"}, {"engine": "eevee", "device": "CUDA"}, {"device": "OPENGL"}]
)
def test_a_request_for_an_unknown_engine_or_device_names_those_that_there_are(changes: dict[str, str]) -> None:
    with pytest.raises(RenderError, match=r"cycles on CPU, CUDA, .*; eevee on CPU, OPENGL") as caught:
        protocol.parse_request(request(**changes))
    assert caught.value.reason == "bad_request"


def test_a_request_that_names_neither_is_for_cycles_on_the_processor() -> None:
    parsed = protocol.parse_request(request())
    assert isinstance(parsed, protocol.RenderRequest)
    assert (parsed.engine, parsed.device) == ("cycles", "CPU")


@pytest.mark.blender
@pytest.mark.parametrize("kind", ["CUDA", "OPTIX", "HIP", "ONEAPI"])
def test_a_card_that_the_machine_lacks_is_refused_with_what_it_has(
    blender: BlenderProcess, boxes: tuple[SceneRecipe, dict[str, Path]], kind: str
) -> None:
    devices = blender.hello.devices
    assert devices[0]["type"] == "CPU" and devices[0]["name"]
    if any(device["type"] == kind for device in devices):
        pytest.skip(f"this machine has {kind}")
    pid = blender.pid
    with pytest.raises(RenderError, match=f"no {kind} device on this machine, which has CPU") as caught:
        draw(blender, boxes, "cycles", kind)
    assert caught.value.reason == "device_missing" and caught.value.reason in INSTALLATION_REASONS
    assert not caught.value.transient and "\n" not in str(caught.value)
    # The refusal leaves nothing behind: the same process renders on the processor.
    assert draw(blender, boxes, "cycles", "CPU").ids is not None and blender.pid == pid


def test_without_the_library_or_a_driver_of_egl_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        (tmp_path / "libEGL.so.1").write_bytes(b"no library")
        patch.setenv("LD_LIBRARY_PATH", str(tmp_path))
        with pytest.raises(RenderError, match=r"apt-get install .* libegl1") as caught:
            probe_opengl()
    assert caught.value.reason == "engine_missing" and "libEGL.so.1" in str(caught.value)
    with monkeypatch.context() as patch:
        patch.setattr(opengl, "PROBE", ("sh", "-c", 'echo \'{"missing": "display", "detail": "EGL error 0x3001"}\''))
        with pytest.raises(RenderError, match="__EGL_VENDOR_LIBRARY_FILENAMES"):
            probe_opengl()


@pytest.mark.parametrize("script", ["kill -ABRT $$", "exit 3"])
def test_a_driver_that_ends_the_process_that_asks_is_a_refusal_too(
    monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(opengl, "PROBE", ("sh", "-c", script))
    with pytest.raises(RenderError, match="look at the driver") as caught:
        probe_opengl()
    assert caught.value.reason == "engine_missing"


def test_software_never_passes_for_a_card_nor_a_card_for_the_processor() -> None:
    software = OpenGLRenderer(name="llvmpipe (LLVM 15.0.6, 256 bits)", version="4.5")
    card = OpenGLRenderer(name="NVIDIA H200/PCIe/SSE2", version="4.6")
    require_device(software, "CPU")
    require_device(card, "OPENGL")
    for renderer, device, words in (
        (software, "OPENGL", "no graphics card here, only llvmpipe"),
        (card, "CPU", "H200"),
    ):
        with pytest.raises(RenderError, match=words) as caught:
            require_device(renderer, device)
        assert caught.value.reason == "device_missing"


@pytest.mark.blender
def test_a_renderer_on_a_machine_without_egl_refuses_eevee_and_lives_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, boxes: tuple[SceneRecipe, dict[str, Path]]
) -> None:
    (tmp_path / "libEGL.so.1").write_bytes(b"no library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    with BlenderProcess(scratch=tmp_path) as process:
        pid = process.hello and process.pid
        with pytest.raises(RenderError, match="libegl1") as caught:
            draw(process, boxes, "eevee", "OPENGL")
        assert caught.value.reason == "engine_missing"
        assert draw(process, boxes, "cycles", "CPU").rgb is not None and process.pid == pid


@pytest.mark.blender
def test_eevee_draws_what_cycles_traces(blender: BlenderProcess, boxes: tuple[SceneRecipe, dict[str, Path]]) -> None:
    try:
        device = probe_opengl().device
    except RenderError as error:
        pytest.skip(str(error))
    drawn, traced = draw(blender, boxes, "eevee", device, samples=1), draw(blender, boxes, "cycles", "CPU", samples=16)
    assert drawn.ids is None and drawn.rgb is not None and traced.rgb is not None
    ids = foreground(*boxes)
    # One sample lies in the middle of the pixel, where the rays go.
    covered = drawn.rgb.any(axis=2)
    assert (covered & (ids > 0)).sum() > 0.99 * (covered | (ids > 0)).sum()
    for number in (1, 2):
        inner = ids == number
        assert np.abs(drawn.rgb[inner].mean(axis=0) - traced.rgb[inner].mean(axis=0)).max() < 20
