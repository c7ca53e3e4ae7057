"""Stage 2: the adapter hands the public package what it states, takes its mesh back in place, and names what is amiss.

The package is no part of the tests. A stand-in with its interface checks what it is given; its sparse layers are
`spconv`'s where that is installed, and otherwise a layer a voxel.
"""

import io
import json
import sys
import types

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from randscene.errors import CheckpointError, PredictionError, SpecError
from randscene.train.stage_two import N_TOKENS, StageTwo
from randscene.train.stage_two_mesh import TexturedMesh, linear_light, textured_glb

pytestmark = pytest.mark.usefixtures("one_thread")

CHANNELS = 16
CORNERS = np.array([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)])
BOX = np.array(
    [
        *([0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]),
        *([2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]),
    ]
)
SAMPLER = {"name": "Euler", "args": {"sigma_min": 1e-5}, "params": {"steps": 12, "cfg_strength": 7.5, "rescale_t": 3.0}}


class SparseTensor:
    def __init__(self, feats, coords):
        # spconv reads the memory as it lies, whatever the strides are.
        assert coords.shape == (len(feats), 4) and coords.dtype == torch.int32 and coords.is_contiguous()
        self.feats, self.coords = feats, coords


class VoxelLayer(nn.Module):
    """A 3x3x3 submanifold convolution by spconv, or a linear layer a voxel."""

    spconv = None

    def __init__(self, low, high):
        super().__init__()
        self.inner = nn.Linear(low, high)
        if self.spconv is not None:
            # On a CPU spconv adds no bias in evaluation mode.
            algorithm = self.spconv.ConvAlgo.Native
            self.inner = self.spconv.SubMConv3d(low, high, 3, bias=False, algo=algorithm)
            nn.init.normal_(self.inner.weight, std=low**-0.5)

    def forward(self, x):
        if self.spconv is None:
            return SparseTensor(self.inner(x.feats), x.coords)
        given = self.spconv.SparseConvTensor(x.feats, x.coords, [64, 64, 64], 1)
        return SparseTensor(self.inner(given).features, x.coords)


class Flow(nn.Module):
    in_channels, cond_channels = 8, CHANNELS

    def __init__(self):
        super().__init__()
        self.enter, self.leave, self.condition = VoxelLayer(8, 32), VoxelLayer(32, 8), nn.Linear(CHANNELS, 32)

    def forward(self, x, cond):
        hidden = self.enter(x)
        return self.leave(SparseTensor(torch.tanh(hidden.feats + self.condition(cond.mean(dim=1))), x.coords))


class MeshDecoder(nn.Module):
    """A box a voxel, its colours by two sparse layers."""

    def __init__(self):
        super().__init__()
        self.first, self.last = VoxelLayer(8, 16), VoxelLayer(16, 6)

    def forward(self, x):
        colours = torch.sigmoid(self.last(self.first(x)).feats)
        places = x.coords[:, None, 1:] + torch.from_numpy(CORNERS)
        faces = 8 * torch.arange(len(x.coords))[:, None, None] + torch.from_numpy(BOX)
        mesh = types.SimpleNamespace(
            vertices=(places.reshape(-1, 3) / 64 - 0.5).float(),
            faces=faces.reshape(-1, 3),
            vertex_attrs=colours.repeat_interleave(8, dim=0),
        )
        return [mesh]


class ImageEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(3 * 14 * 14, CHANNELS)
        self.extra = nn.Parameter(torch.randn(N_TOKENS - 37 * 37, CHANNELS))

    def forward(self, image):
        patches = image.unfold(1, 14, 14).unfold(2, 14, 14).permute(1, 2, 0, 3, 4).reshape(37 * 37, -1)
        return torch.cat([self.extra, self.project(patches)])[None]


class Euler:
    def __init__(self, sigma_min):
        self.sigma_min = sigma_min


MODELS = {
    "sparse_structure_flow_model": lambda: nn.Linear(2, 2),
    "slat_flow_model": Flow,
    "slat_decoder_mesh": MeshDecoder,
    "slat_decoder_gs": lambda: nn.Linear(3, 3),
}


class Pipeline:
    """As `TrellisImageTo3DPipeline` from outside; it looks closely at what comes in."""

    @classmethod
    def from_pretrained(cls, source):
        with open(f"{source}/pipeline.json") as file:
            args = json.load(file)["args"]
        self = cls()
        with torch.random.fork_rng():
            torch.manual_seed(args["weights"])
            self.models = {name: MODELS[name]() for name in args["models"]}
            if args["image_cond_model"]:
                self.models["image_cond_model"] = ImageEncoder()
        self.slat_sampler, self.slat_sampler_params = Euler(**SAMPLER["args"]), SAMPLER["params"]
        self.slat_normalization = {"mean": [0.0] * 8, "std": [1.0] * 8}
        self.images, self.device = [], None
        return self

    def to(self, device):
        assert isinstance(device, torch.device)
        self.device = device

    def get_cond(self, images):
        (image,) = images
        assert isinstance(image, Image.Image) and image.mode == "RGB" and image.size == (518, 518)
        self.images.append(np.asarray(image))
        cond = self.models["image_cond_model"](torch.from_numpy(np.asarray(image) / 255).permute(2, 0, 1).float())
        return {"cond": cond, "neg_cond": torch.zeros_like(cond)}

    def sample_slat(self, cond, coords, sampler_params):
        assert coords.dtype == torch.int32 and coords.shape == (len(coords), 4) and coords.device == self.device
        assert not coords[:, 0].any() and coords.min() >= 0 and coords.max() < 64
        order = (coords[:, 1].long() * 64 + coords[:, 2]) * 64 + coords[:, 3]
        assert len(order) and (order.diff() > 0).all()
        settings = self.slat_sampler_params | sampler_params
        assert settings == {"steps": 25, "cfg_strength": 3.0, "rescale_t": 3.0}
        flow = self.models["slat_flow_model"]
        x = torch.randn(len(coords), flow.in_channels)
        for _ in range(settings["steps"]):
            velocity, other = (flow(SparseTensor(x, coords), cond[name]).feats for name in ("cond", "neg_cond"))
            x = x - ((1 + settings["cfg_strength"]) * velocity - settings["cfg_strength"] * other) / settings["steps"]
        return SparseTensor(x, coords)

    def decode_slat(self, slat, formats):
        decoded = {"mesh": self.models["slat_decoder_mesh"](slat)}
        return decoded | ({"gaussian": [slat]} if "gaussian" in formats else {})


def write_source(folder, *, weights=1, without=(), encoder="dinov2_vitl14_reg"):
    folder.mkdir(parents=True)
    models = {name: f"ckpts/{name}" for name in MODELS if name not in without}
    args = {"models": models, "weights": weights, "image_cond_model": encoder}
    (folder / "pipeline.json").write_text(json.dumps({"name": "TrellisImageTo3DPipeline", "args": args}))
    return str(folder)


def install(monkeypatch, **members):
    """The stand-in as the package `trellis`."""
    package, pipelines = types.ModuleType("trellis"), types.ModuleType("trellis.pipelines")
    package.__path__ = []
    for name, member in members.items():
        setattr(pipelines, name, member)
    for name in [name for name in sys.modules if name.split(".")[0] == "trellis"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "trellis", package)
    monkeypatch.setitem(sys.modules, "trellis.pipelines", pipelines)


@pytest.fixture(params=["linear", "spconv"])
def package(request, monkeypatch):
    if request.param == "spconv":
        monkeypatch.setattr(VoxelLayer, "spconv", pytest.importorskip("spconv.pytorch"))
    install(monkeypatch, TrellisImageTo3DPipeline=Pipeline)


@pytest.fixture
def stand_in(monkeypatch):
    """Where the sparse layers do not matter."""
    install(monkeypatch, TrellisImageTo3DPipeline=Pipeline)


COORDS = np.array([[0, 1, 63], [2, 0, 5], [2, 1, 5], [40, 63, 7]], np.uint8)


def picture(value=90):
    image = np.zeros((518, 518, 3), np.uint8)
    image[100:300, 50:400] = (value, 40, 200)
    return image


def load(tmp_path, **options):
    return StageTwo.load(write_source(tmp_path / "source", **options), "cpu")


def written(mesh):
    return textured_glb([("instance_01_textured", mesh)])


def read(data):
    scene = trimesh.load_scene(io.BytesIO(data), file_type="glb", process=False)
    (mesh,) = scene.geometry.values()
    return mesh


def test_one_seed_gives_the_same_bytes_whatever_the_order_of_voxels_and_another_one_others(package, tmp_path):
    two = load(tmp_path)
    first = written(two.textured(COORDS, picture(), seed=5))
    torch.manual_seed(99)
    assert written(two.textured(COORDS[::-1], picture(), seed=5)) == first
    assert written(two.textured(COORDS, picture(), seed=6)) != first
    assert written(two.textured(COORDS, picture(10), seed=5)) != first
    np.testing.assert_array_equal(two.pipeline.images[0], picture())


def test_the_callers_random_stream_is_left_as_it_was(package, tmp_path):
    two = load(tmp_path)
    torch.manual_seed(3)
    expected = torch.randn(4)
    torch.manual_seed(3)
    two.textured(COORDS, picture(), seed=5)
    assert torch.equal(torch.randn(4), expected)


def test_the_mesh_lies_on_its_voxels_and_is_written_y_up_with_linear_colours(package, tmp_path):
    mesh = load(tmp_path).textured(COORDS, picture(), seed=5)
    corners = (COORDS[:, None] + CORNERS).reshape(-1, 3) / 64 - 0.5
    np.testing.assert_allclose(mesh.vertices, corners, atol=1e-6)
    assert mesh.vertices.dtype == np.float32 and mesh.faces.shape == (12 * len(COORDS), 3) and mesh.uv is None
    assert mesh.colours.dtype == np.uint8 and len(np.unique(mesh.colours)) > 4
    back = read(written(mesh))
    x, y, z = corners.T
    np.testing.assert_allclose(back.vertices, np.stack([x, z, -y], axis=1), atol=1e-6)
    np.testing.assert_array_equal(back.faces, mesh.faces)
    assert back.volume == pytest.approx(len(COORDS) / 64**3, rel=1e-4)  # positive: nothing is mirrored
    colours = back.visual.vertex_attributes["color"]
    np.testing.assert_array_equal(colours[:, :3], linear_light(mesh.colours))
    assert (colours[:, 3] == 255).all() and back.visual.material.metallicFactor == 0


def test_linear_light_follows_the_srgb_curve():
    np.testing.assert_array_equal(linear_light(np.array([0, 5, 55, 128, 188, 255], np.uint8)), [0, 0, 10, 55, 128, 255])


def test_a_baked_mesh_is_turned_back_into_the_cube_and_keeps_its_texture(stand_in, tmp_path):
    texture = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    uv = np.array([[0.0, 0.25], [1.0, 0.25], [0.5, 1.0]])
    corners = np.array([[0.1, 0.2, 0.3], [0.4, 0.2, 0.3], [0.1, -0.2, 0.4]])

    def to_glb(gaussian, mesh, *, simplify, texture_size, verbose):
        assert len(gaussian.feats) == len(COORDS) and len(mesh.vertices) == 8 * len(COORDS)
        assert (simplify, texture_size, verbose) == (0.95, 1024, False)
        x, y, z = corners.T
        material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.fromarray(texture))
        visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
        return trimesh.Trimesh(np.stack([x, z, -y], axis=1), [[0, 1, 2]], visual=visual, process=False)

    plain = load(tmp_path)
    two = StageTwo(plain.pipeline, source="somewhere", device="cpu", to_glb=to_glb)
    assert (two.about()["colour"], plain.about()["colour"]) == ("texture", "vertex")
    assert two.identity != plain.identity
    mesh = two.textured(COORDS, picture(), seed=5)
    np.testing.assert_allclose(mesh.vertices, corners, atol=1e-6)
    assert mesh.colours is None
    back = read(written(mesh))
    np.testing.assert_allclose(back.visual.uv, uv, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(back.visual.material.baseColorTexture)[..., :3], texture)


@pytest.mark.parametrize(
    ("coords", "image", "message"),
    [
        (COORDS[:0], picture(), "one at least"),
        (COORDS.astype(np.int32), picture(), r"\(V, 3\) uint8"),
        (COORDS[:, :2], picture(), r"\(V, 3\) uint8"),
        (COORDS[[0, 1, 0]], picture(), "each voxel once"),
        (COORDS + np.array([0, 1, 0], np.uint8), picture(), "below 64"),
        (COORDS, picture()[:500], r"instance image of \(518, 518, 3\) uint8"),
        (COORDS, picture() / 255, r"instance image of \(518, 518, 3\) uint8"),
    ],
)
def test_what_is_no_occupancy_or_instance_image_is_refused(stand_in, tmp_path, coords, image, message):
    two = load(tmp_path)
    with pytest.raises(PredictionError, match=message):
        two.textured(coords, image, seed=0)
    assert two.pipeline.images == []


@pytest.mark.parametrize("shape", [(1, N_TOKENS - 4, CHANNELS), (2, N_TOKENS, CHANNELS), (1, N_TOKENS, CHANNELS + 1)])
def test_tokens_of_another_image_encoder_are_refused(stand_in, tmp_path, monkeypatch, shape):
    two = load(tmp_path)
    tokens = {"cond": torch.zeros(shape), "neg_cond": torch.zeros(shape)}
    monkeypatch.setattr(two.pipeline, "get_cond", lambda images: tokens)
    with pytest.raises(PredictionError, match=r"its flow needs \(1, 1374, 16\)"):
        two.textured(COORDS, picture(), seed=0)


def test_what_the_decoder_gives_is_looked_at(stand_in, tmp_path, monkeypatch):
    two = load(tmp_path)
    decoder = two.pipeline.models["slat_decoder_mesh"]
    whole = decoder.forward

    def changed(**changes):
        def forward(x):
            (mesh,) = whole(x)
            return [types.SimpleNamespace(**(vars(mesh) | changes))]

        monkeypatch.setattr(decoder, "forward", forward)

    changed(vertices=torch.zeros(0, 3), faces=torch.zeros(0, 3).long())
    assert two.textured(COORDS, picture(), seed=0) is None
    changed(vertex_attrs=None)
    with pytest.raises(SpecError, match="no vertex colours: give --stage-two-texture"):
        two.textured(COORDS, picture(), seed=0)
    changed(vertices=torch.full((8 * len(COORDS), 3), torch.nan))
    with pytest.raises(PredictionError, match="NaN or infinity"):
        two.textured(COORDS, picture(), seed=0)
    nn.init.constant_(two.pipeline.models["slat_flow_model"].condition.bias, torch.nan)
    with pytest.raises(PredictionError, match="not one finite row a voxel"):
        two.textured(COORDS, picture(), seed=0)


def test_without_the_package_or_what_it_needs_the_message_says_what_to_install(tmp_path, monkeypatch):
    source = write_source(tmp_path / "source")
    for name in [name for name in sys.modules if name.split(".")[0] == "trellis"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    absent, another = None, types.ModuleType("trellis")
    another.__path__ = []
    for found in (absent, another):
        monkeypatch.setitem(sys.modules, "trellis", found)
        with pytest.raises(SpecError, match=r"clone https://github\.com/microsoft/TRELLIS") as failure:
            StageTwo.load(source, "cpu")
        assert "is missing" not in str(failure.value) and "\n" not in str(failure.value)
    monkeypatch.delitem(sys.modules, "trellis")
    (tmp_path / "trellis" / "pipelines").mkdir(parents=True)
    (tmp_path / "trellis" / "__init__.py").write_text("")
    (tmp_path / "trellis" / "pipelines" / "__init__.py").write_text("import flash_attn_that_is_not_there\n")
    with pytest.raises(SpecError, match="it is there, but flash_attn_that_is_not_there is missing"):
        StageTwo.load(source, "cpu")
    install(monkeypatch)
    with pytest.raises(SpecError, match="has no TrellisImageTo3DPipeline"):
        StageTwo.load(source, "cpu")


def test_a_source_that_is_no_image_pipeline_is_refused(stand_in, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match=r"cannot load the stage 2 pipeline .*nowhere.*FileNotFoundError"):
        StageTwo.load(str(tmp_path / "nowhere"), "cpu")
    for name, options in (
        ("slat_decoder_mesh", {"without": ["slat_decoder_mesh"]}),
        ("image_cond_model", {"encoder": ""}),
    ):
        with pytest.raises(CheckpointError, match=f"has no {name}: stage 2 needs an image-to-3D pipeline"):
            StageTwo.load(write_source(tmp_path / name, **options), "cpu")
    with pytest.raises(SpecError, match="--stage-two-texture bakes with CUDA"):
        StageTwo.load(write_source(tmp_path / "whole"), "cpu", texture=True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def damaged(source):
        load_file(tmp_path / "whole" / "pipeline.json")

    def needs_cuda(source):
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setattr(Pipeline, "from_pretrained", damaged)
    with pytest.raises(CheckpointError, match=r"cannot load the stage 2 pipeline .*SafetensorError"):
        StageTwo.load(str(tmp_path / "whole"), "cpu")
    monkeypatch.setattr(Pipeline, "from_pretrained", needs_cuda)
    with pytest.raises(SpecError, match="the mesh decoder of TRELLIS needs a CUDA device"):
        StageTwo.load(str(tmp_path / "whole"), "cpu")


def test_the_identity_is_that_of_the_weights_that_are_used(stand_in, tmp_path, monkeypatch):
    first = load(tmp_path)
    assert set(first.pipeline.models) == {"image_cond_model", "slat_flow_model", "slat_decoder_mesh"}
    assert first.pipeline.device == torch.device("cpu")
    elsewhere = StageTwo.load(write_source(tmp_path / "elsewhere"), "cpu")
    other = StageTwo.load(write_source(tmp_path / "other", weights=2), "cpu")
    assert elsewhere.identity == first.identity != other.identity
    monkeypatch.setitem(SAMPLER["params"], "rescale_t", 1.0)
    assert load(tmp_path / "again").identity != first.identity


def test_a_scene_names_its_nodes(tmp_path):
    faces = np.array([[0, 1, 2]])
    meshes = [
        (
            name,
            TexturedMesh(vertices=np.eye(3, dtype=np.float32) * scale, faces=faces, colours=np.eye(3, dtype=np.uint8)),
        )
        for name, scale in (("instance_01_textured", 0.1), ("instance_03_textured", 0.3))
    ]
    scene = trimesh.load_scene(io.BytesIO(textured_glb(meshes)), file_type="glb")
    assert set(scene.graph.nodes_geometry) == {"instance_01_textured", "instance_03_textured"}
