"""Prediction from everything that holds weights: the same networks from every form, told apart and named truly."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from shard_fixtures import make_sample
from typer.testing import CliRunner

from randscene.cli.main import app
from randscene.errors import CheckpointError, PredictionError, SpecError
from randscene.seeding import integer
from randscene.train import published
from randscene.train.checkpoint import checkpoint_sha256, open_run, save_checkpoint
from randscene.train.conditioned_flow import ConditionedFlow
from randscene.train.image_conditioner import prepare_images
from randscene.train.initial_weights import load_initial_flow
from randscene.train.predict import Predictor
from randscene.train.prediction_source import find_source
from randscene.train.prediction_view import View
from randscene.train.sampler import sample
from randscene.train.settings import load_settings, with_overrides
from randscene.train.sparse_structure_flow import SparseStructureFlow
from randscene.train.sparse_structure_vae import SparseStructureDecoder
from randscene.train.structure_encoder import MINI_WEIGHTS, decode_latents

pytestmark = pytest.mark.usefixtures("one_thread")

pytest.importorskip("transformers")

CHANNELS = 64
FLOW_STEM, DECODER_STEM = "ss_flow_img_dit_L_16l8_fp16", "ss_dec_conv3d_16l8_fp16"
FLOW = {"model_channels": 32, "cond_channels": CHANNELS, "num_blocks": 2, "num_heads": 2, "patch_size": 4}
DINO_CONFIG = {
    "model_type": "dinov2_with_registers",
    "hidden_size": CHANNELS,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "patch_size": 14,
    "image_size": 28,
}
TINY = (
    *(f"model.{name}={value}" for name, value in FLOW.items()),
    "model.sca_blocks=[1]",
    f"conditioner.channels={CHANNELS}",
    "conditioner.num_blocks=1",
    "conditioner.num_heads=2",
    "conditioner.image_size=28",
    "sampling.steps=2",
)
MINI_RUN = with_overrides(
    load_settings("mini"),
    [
        *TINY,
        "conditioner.num_blocks=0",
        "conditioner.patch_size=16",
        "conditioner.image_size=32",
        "keep_checkpoints=3",
    ],
)


def fill(module: torch.nn.Module, seed: int, scale: float = 0.2) -> dict[str, torch.Tensor]:
    """Random values for every parameter of `module`: nothing is zero, as it is in fresh models."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return module.state_dict()


def write_dinov2(folder: Path, seed: int = 3) -> Path:
    """A DINOv2 with registers of one block, in the layout of its Hugging Face repository."""
    c, block = CHANNELS, "encoder.layer.0"
    shapes = {
        "embeddings.cls_token": (1, 1, c),
        "embeddings.mask_token": (1, c),
        "embeddings.position_embeddings": (1, 5, c),
        "embeddings.register_tokens": (1, 4, c),
        "embeddings.patch_embeddings.projection.weight": (c, 3, 14, 14),
        "embeddings.patch_embeddings.projection.bias": (c,),
        f"{block}.layer_scale1.lambda1": (c,),
        f"{block}.layer_scale2.lambda1": (c,),
    }
    layers = {f"{block}.mlp.fc1": (4 * c, c), f"{block}.mlp.fc2": (c, 4 * c)}
    layers |= {f"{block}.attention.attention.{part}": (c, c) for part in ("query", "key", "value")}
    layers |= {f"{block}.attention.output.dense": (c, c), f"{block}.norm1": (c,), f"{block}.norm2": (c,)}
    for name, shape in (layers | {"layernorm": (c,)}).items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    generator = torch.Generator().manual_seed(seed)
    folder.mkdir(parents=True)
    tensors = {name: torch.randn(shape, generator=generator) * 0.2 for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(DINO_CONFIG))
    return folder


@dataclasses.dataclass(frozen=True)
class Weights:
    """One set of weights in every published form, and what goes with it."""

    forms: dict[str, tuple[Path, Path]]
    """What to give, and the file that is then read."""
    dinov2: Path
    decoder: Path

    @property
    def options(self) -> list[str]:
        return [*TINY, f"conditioner.source={self.dinov2}", f"data.encoder={self.decoder}"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Weights:
    folder = tmp_path_factory.mktemp("published")
    hub, iscene = folder / "hub", folder / "iscene"
    (hub / "ckpts").mkdir(parents=True)
    iscene.mkdir()
    flow = fill(SparseStructureFlow(resolution=16, in_channels=8, out_channels=8, qk_rms_norm=True, **FLOW), 1)
    arguments = {"out_channels": 1, "channels": [16, 12, 8], "latent_channels": 8}
    arguments |= {"num_res_blocks": 1, "num_res_blocks_middle": 1, "use_fp16": True}
    decoder = SparseStructureDecoder(**arguments)
    decoder.reset_parameters(torch.Generator().manual_seed(2))
    with torch.no_grad():
        decoder.out_layer[-1].bias.fill_(-1.5)  # few voxels: quick meshes
    for stem, name, args, tensors in (
        (FLOW_STEM, "SparseStructureFlowModel", FLOW, flow),
        (DECODER_STEM, "SparseStructureDecoder", arguments, decoder.state_dict()),
    ):
        (hub / "ckpts" / f"{stem}.json").write_text(json.dumps({"name": name, "args": args}))
        save_file(tensors, hub / "ckpts" / f"{stem}.safetensors")
    config = {"base_model_id": "microsoft/TRELLIS-image-large", "denoiser_checkpoint": "denoiser.pt"}
    (iscene / "iscene_config.json").write_text(json.dumps(config))
    torch.save(flow, iscene / "denoiser.pt")
    torch.save({f"module.{name}": value for name, value in flow.items()}, folder / "flow.pt")
    save_file(flow, folder / "flow.safetensors")
    forms = {
        "hub": (hub, hub / "ckpts" / f"{FLOW_STEM}.safetensors"),
        "iscene": (iscene, iscene / "denoiser.pt"),
        "pt": (folder / "flow.pt",) * 2,
        "safetensors": (folder / "flow.safetensors",) * 2,
    }
    return Weights(forms=forms, dinov2=write_dinov2(folder / "dinov2"), decoder=hub)


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> list[str]:
    """The options that give a picture of two instances."""
    folder = tmp_path_factory.mktemp("picture")
    noise = torch.randint(0, 256, (40, 60, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    ids = np.zeros((40, 60), np.uint8)
    ids[4:30, 5:25], ids[20:36, 30:55] = 1, 2
    Image.fromarray(noise.numpy()).save(folder / "room.png")
    Image.fromarray(ids).save(folder / "ids.png")
    return ["--image", str(folder / "room.png"), "--masks", str(folder / "ids.png"), "--device", "cpu"]


def command(source: Path, out: Path, *options: str, sets: tuple[str, ...] | list[str] = ()) -> dict:
    """Run `randscene predict` for the one picture; what its prediction.json says."""
    arguments = ["predict", str(source), "--out", str(out), *options]
    arguments += [part for value in sets for part in ("--set", value)]
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None:
        raise result.exception
    return json.loads((out / "room" / "prediction.json").read_text())


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_published_form_predicts_the_same_and_says_what_was_used(weights, picture, tmp_path):
    occupied = set()
    for form, (source, file) in weights.forms.items():
        about = command(source, tmp_path / form, *picture, sets=weights.options)
        told = about["source"]
        assert (about["checkpoint"], told["sha256"]) == (sha256(file),) * 2
        assert (about["checkpoint_step"], about["steps"], about["cfg"]) == (None, 2, 3.0)
        assert (told["name"], told["kind"], told["precision"]) == (str(source), "published", "bfloat16")
        assert told["conditioner"] == {
            "kind": "dinov2",
            "source": str(weights.dinov2),
            "sha256": sha256(weights.dinov2 / "model.safetensors"),
            "image_size": 28,
        }
        decoder = weights.decoder / "ckpts" / f"{DECODER_STEM}.safetensors"
        assert told["decoder"] == {"name": str(weights.decoder), "sha256": sha256(decoder)}
        assert told["model"]["sca_blocks"] == [1] and told["model"]["model_channels"] == 32
        with np.load(tmp_path / form / "room" / "occupancy.npz") as members:
            assert len(members["coords"]) > 0 and len(members["offsets"]) == 3
            occupied.add(members["coords"].tobytes() + members["offsets"].tobytes())
    assert len(occupied) == 1


def predictor(weights: Weights, *more: str, **options) -> Predictor:
    source = find_source(weights.forms["pt"][0], overrides=[*weights.options, "data.encoder=mini", *more])
    return Predictor(source, device="cpu", **options)


VIEW = View.of_sample(make_sample(5, 1, objects=(3, 3)))


def test_instances_together_get_what_each_gets_alone_beside_the_scene(weights):
    ready = predictor(weights)
    images = torch.from_numpy(prepare_images(VIEW.image, 28))
    with torch.no_grad():
        tokens = ready.model.conditioner(images)

    def alone(instance: int, scene: torch.Tensor) -> np.ndarray:
        generator = torch.Generator().manual_seed(integer(0, VIEW.key, "sampling"))
        pair = (scene, tokens[instance : instance + 1], torch.zeros(1, dtype=torch.int64))
        _, latents = sample(ready.model.flow, *pair, generators=[generator], settings=ready.sampling)
        return decode_latents(ready.decoder, latents.numpy())[0]

    together = ready.logits([VIEW])[0]
    assert len(together) == 3
    for instance in (1, 2, 3):
        np.testing.assert_allclose(together[instance - 1], alone(instance, tokens[:1]), atol=2e-3)
        # The scene does matter, and so does the instance: the agreement above is not that of constants.
        assert np.abs(together[instance - 1] - alone(instance, tokens[1:2])).max() > 0.05
    assert np.abs(together[0] - together[1]).max() > 0.05


@pytest.mark.parametrize(
    "change", ["model.sca_blocks=[]", "conditioner.image_size=56", "optimiser.precision=float32", "data.encoder"]
)
def test_published_weights_that_are_used_otherwise_are_another_source(change, weights):
    change = f"data.encoder={weights.decoder}" if change == "data.encoder" else change
    assert predictor(weights).settings_digest() != predictor(weights, change).settings_digest()


def test_weights_are_the_same_source_wherever_their_files_lie_and_another_encoder_is_not(weights, picture, tmp_path):
    source = weights.forms["safetensors"][0]
    command(source, tmp_path / "out", *picture, sets=weights.options)
    moved = tmp_path / "moved.safetensors"
    shutil.copy(source, moved)
    shutil.copytree(weights.dinov2, tmp_path / "dinov2")
    there = [*weights.options, f"conditioner.source={tmp_path / 'dinov2'}"]
    again = command(moved, tmp_path / "out", *picture, sets=there)
    assert again["source"]["name"] == str(source)  # the finished one was kept
    other = [*weights.options, f"conditioner.source={write_dinov2(tmp_path / 'other', seed=4)}"]
    with pytest.raises(PredictionError, match="predicted with another checkpoint or sampler"):
        command(source, tmp_path / "out", *picture, sets=other)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of three checkpoints, of which the second is the best."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    open_run(folder, MINI_RUN)
    data = {"encoder": {"name": "mini", "sha256": sha256(MINI_WEIGHTS)}}
    for step, loss in ((10, 0.4), (20, 0.2), (30, 0.3)):
        model = ConditionedFlow(MINI_RUN)
        fill(model, step)
        tensors = {f"{name}_ema": part.state_dict() for name, part in model.parts().items()}
        save_checkpoint(folder, step=step, settings=MINI_RUN, data=data, tensors=tensors, validation=loss)
    return folder


def test_a_run_gives_its_newest_checkpoint_or_its_best_one_and_a_checkpoint_itself(run, picture, tmp_path):
    checkpoints = run / "checkpoints"
    (tmp_path / "link").symlink_to(checkpoints / "step_0000010")
    for number, (source, options, step) in enumerate(
        [
            (run, [], 30),
            (run, ["--best"], 20),
            (checkpoints / "step_0000010", [], 10),
            (tmp_path / "link", [], 10),
        ]
    ):
        about = command(source, tmp_path / str(number), *picture, *options)
        found = checkpoint_sha256(checkpoints / f"step_{step:07d}")
        assert (about["checkpoint_step"], about["checkpoint"], about["source"]["sha256"]) == (step, found, found)
        assert about["source"]["kind"] == "checkpoint" and about["source"]["name"] == str(source)
        assert about["source"]["decoder"] == {"name": "mini", "sha256": sha256(MINI_WEIGHTS)}
        assert about["source"]["conditioner"]["sha256"] is None


def test_options_of_another_kind_of_source_are_refused(run, weights, picture, tmp_path):
    published = weights.forms["hub"][0]
    for source, options, message in (
        (run, ["--preset", "iscene"], "has the settings that it was trained with"),
        (run / "checkpoints" / "step_0000010", ["--set", "model.sca_blocks=[]"], "--preset and --set say how"),
        (run / "checkpoints" / "step_0000010", ["--best"], "is not a run folder"),
        (published, ["--best"], "is not a run folder"),
        (published, ["--preset", "mini"], "used with the frozen dinov2"),
        (published, ["--preset", "minii"], "no preset or settings file called minii"),
        (published, ["--set", "model.sca_block=[]"], "there is no setting called model.sca_block"),
    ):
        with pytest.raises(SpecError, match=message):
            command(source, tmp_path / "out", *picture, *options)
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_was_taken_out_of_its_run_is_refused(run, tmp_path):
    shutil.copytree(run / "checkpoints" / "step_0000010", tmp_path / "alone")
    with pytest.raises(CheckpointError, match="does not lie in the checkpoints folder of a run"):
        find_source(tmp_path / "alone")
    with pytest.raises(CheckpointError, match="does not lie"):
        Predictor(tmp_path / "alone", device="cpu")


def test_the_folder_around_a_run_or_its_checkpoints_is_refused_with_what_was_meant(run):
    for folder, meant in (
        (run / "checkpoints", f"is the folder of a run's checkpoints: give the run, {run}, or one of them"),
        (run.parent, f"holds runs and is none: give {run}"),
    ):
        with pytest.raises(CheckpointError, match=f"^{folder} {meant}$"):
            find_source(folder)


def test_a_checkpoint_that_does_not_say_what_it_was_trained_with_is_refused_in_one_line(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    newest = tmp_path / "run" / "checkpoints" / "step_0000030"
    state = json.loads((newest / "state.json").read_text())
    for data in ({}, {"encoder": "mini"}, {"encoder": {}}):
        (newest / "state.json").write_text(json.dumps(state | {"data": data}))
        with pytest.raises(CheckpointError, match=f"does not say which encoder .*: delete {newest} to use an earlier"):
            find_source(tmp_path / "run").load()


def test_a_source_that_is_not_there_or_of_another_size_is_named_before_anything_else(weights, tmp_path):
    nowhere = ["conditioner.source=/nowhere/dinov2", "data.encoder=/nowhere/encoder"]
    with pytest.raises(CheckpointError, match=r'no folder or file "nowhere"'):
        Predictor(find_source("nowhere", overrides=[*TINY, *nowhere]), device="cpu")
    with pytest.raises(CheckpointError, match=r"does not fit SparseStructureFlow: .* has shape"):
        overrides = [*TINY, *nowhere, "model.num_heads=4"]
        Predictor(find_source(weights.forms["pt"][0], overrides=overrides), device="cpu")
    with pytest.raises(CheckpointError, match='no folder or file "/nowhere/dinov2"'):
        Predictor(find_source(weights.forms["pt"][0], overrides=[*TINY, *nowhere]), device="cpu")


def test_a_mistyped_run_is_told_with_what_is_there_and_no_network_is_asked(tmp_path, monkeypatch):
    for run in ("mini", "large"):
        (tmp_path / "runs" / run / "checkpoints").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(published, "fetch", lambda *_: pytest.fail("the network was asked"))
    for source, words in {
        "runs/mimi": "there is no mimi in runs; did you mean mini",
        "runs/other": "there is no other in runs; it holds large, mini$",
        "runs/mini/checkpoint": "there is no checkpoint in runs/mini; did you mean checkpoints",
        "runs/mini/checkpoints/step_0000012": "there is no step_0000012 in runs/mini/checkpoints; it is empty",
        f"{tmp_path}/runs/mimi": "did you mean mini",
    }.items():
        for ask in (find_source, lambda name: load_initial_flow(torch.nn.Identity(), name)):
            with pytest.raises(CheckpointError, match=f"^no run or weights at {source}: .*{words}"):
                ask(source)
    assert find_source("microsoft/TRELLIS-image-large").name == "microsoft/TRELLIS-image-large"


def test_a_run_is_not_used_with_another_frozen_encoder_than_it_was_trained_with(weights, tmp_path):
    dinov2 = write_dinov2(tmp_path / "dinov2", seed=5)
    options = [*weights.options, f"conditioner.source={dinov2}", "data.encoder=mini"]
    settings = with_overrides(load_settings("iscene"), options)
    run = tmp_path / "run"
    open_run(run, settings)
    data = {"encoder": {"sha256": sha256(MINI_WEIGHTS)}, "conditioner": sha256(dinov2 / "model.safetensors")}
    flow = {"model_ema": fill(ConditionedFlow(settings).flow, 6)}
    save_checkpoint(run, step=1, settings=settings, data=data, tensors=flow)
    assert Predictor(run, device="cpu").loaded.about["conditioner"]["sha256"] == data["conditioner"]
    shutil.rmtree(dinov2)
    write_dinov2(dinov2, seed=6)
    with pytest.raises(CheckpointError, match="was trained with other weights of the image encoder"):
        Predictor(run, device="cpu")
