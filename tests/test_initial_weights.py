"""A flow's first weights: from every form they come in, all of them or none, and never by running a file's code."""

import dataclasses
import hashlib
import json
import os
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from randscene.errors import CheckpointError
from randscene.train.checkpoint import open_run, save_checkpoint
from randscene.train.initial_weights import load_initial_flow
from randscene.train.settings import load_settings
from randscene.train.sparse_structure_flow import SparseStructureFlow

DATA = Path(__file__).parent / "data" / "model"
STEM = "ss_flow_img_dit_L_16l8_fp16"
CONFIG = json.loads((DATA / "flow_small_p2.json").read_text())["config"]


def fresh(**more) -> SparseStructureFlow:
    return SparseStructureFlow(**CONFIG, **more)


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    """Released-style weights: float16 where the published file has it."""
    return load_file(DATA / "flow_small_p2.weights.safetensors")


def hub_folder(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    (path / "ckpts").mkdir(parents=True)
    (path / "ckpts" / f"{STEM}.json").write_text(json.dumps({"name": "SparseStructureFlowModel", "args": CONFIG}))
    save_file(tensors, path / "ckpts" / f"{STEM}.safetensors")
    return path / "ckpts" / f"{STEM}.safetensors"


def iscene_folder(path: Path, tensors: dict[str, torch.Tensor], member: str = "weights/denoiser.pt") -> Path:
    (path / member).parent.mkdir(parents=True, exist_ok=True)
    config = {"base_model_id": "microsoft/TRELLIS-image-large", "config_file": "config.yml"}
    (path / "iscene_config.json").write_text(json.dumps(config | {"denoiser_checkpoint": member}))
    torch.save(tensors, path / member)
    return path / member


def run_folder(path: Path, tensors: dict[str, torch.Tensor], steps: int = 1) -> Path:
    settings = load_settings("mini")
    open_run(path, settings)
    for step in range(1, steps + 1):
        other = {name: value + (1 if step < steps else 0) for name, value in tensors.items()}
        last = {name: value - 1 for name, value in tensors.items()}
        folder = save_checkpoint(
            path, step=step, settings=settings, data={}, tensors={"model": last, "model_ema": other}
        )
    return folder / "model_ema.safetensors"


def check(flow: SparseStructureFlow, tensors: dict[str, torch.Tensor], digest: str, file: Path) -> None:
    state = flow.state_dict()
    assert state.keys() == tensors.keys()
    assert all(value.equal(tensors[name].to(value.dtype)) for name, value in state.items())
    assert digest == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "form", ["hub", "safetensors", "pt", "parallel_pt", "pth", "iscene", "iscene_safetensors", "run", "checkpoint"]
)
def test_every_form_gives_exactly_its_tensors_and_the_hash_of_its_file(form, tensors, tmp_path):
    floats = {name: value.float() for name, value in tensors.items()}
    source = tmp_path / "source"
    if form == "hub":
        file = hub_folder(source, tensors)
    elif form == "safetensors":
        source = file = tmp_path / "flow.safetensors"
        save_file(tensors, file)
    elif form in ("pt", "pth", "parallel_pt"):
        source = file = tmp_path / f"denoiser_ema0.9999_step0130000.{'pth' if form == 'pth' else 'pt'}"
        prefix = "module." if form == "parallel_pt" else ""
        torch.save({f"{prefix}{name}": value for name, value in floats.items()}, file)
    elif form == "iscene":
        file = iscene_folder(source, floats)
    elif form == "iscene_safetensors":
        file = iscene_folder(source, floats, "denoiser.safetensors")
        save_file(floats, file)
    else:
        file = run_folder(source, floats, steps=2)
        source = source if form == "run" else file.parent
    flow = fresh()
    digest = load_initial_flow(flow, str(source))
    check(flow, tensors, digest, file)


def test_a_hugging_face_id_is_fetched_and_without_the_network_one_line_says_what_to_do(tensors, tmp_path, monkeypatch):
    hub, asked = pytest.importorskip("huggingface_hub"), []
    file = hub_folder(tmp_path, tensors)
    monkeypatch.setattr(hub, "hf_hub_download", lambda *names: asked.append(names) or str(tmp_path / names[1]))
    flow = fresh()
    digest = load_initial_flow(flow, "microsoft/TRELLIS-image-large")
    check(flow, tensors, digest, file)
    assert asked == [("microsoft/TRELLIS-image-large", f"ckpts/{STEM}.{end}") for end in ("json", "safetensors")]

    def fail(*names):
        raise hub.errors.LocalEntryNotFoundError("no network")

    monkeypatch.setattr(hub, "hf_hub_download", fail)
    with pytest.raises(
        CheckpointError, match=rf"cannot fetch ckpts/{STEM}.json of .*in a folder of your own"
    ) as caught:
        load_initial_flow(flow, "microsoft/TRELLIS-image-large")
    assert "\n" not in str(caught.value)


def test_a_float16_torso_takes_float32_weights(tensors, tmp_path):
    torch.save({name: value.float() for name, value in tensors.items()}, tmp_path / "flow.pt")
    flow = fresh(use_fp16=True, sca_blocks=(0, 1))
    load_initial_flow(flow, str(tmp_path / "flow.pt"))
    assert flow.blocks[0].mlp.mlp[0].weight.dtype == torch.float16
    assert flow.blocks[0].mlp.mlp[0].weight.equal(tensors["blocks.0.mlp.mlp.0.weight"].half())


@pytest.fixture(scope="module")
def released() -> tuple[SparseStructureFlow, dict[str, torch.Tensor]]:
    """The released flow without memory, and tensors of all its names and shapes that share one number each."""
    expected = json.loads((DATA / "state_dicts.json").read_text())[STEM]
    with torch.device("meta"):
        flow = SparseStructureFlow(**expected["config"]["args"], sca_blocks=(10, 11, 12, 13, 14))
    return flow, {name: torch.zeros(1).expand(shape) for name, (shape, _) in expected["tensors"].items()}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_training_checkpoint_of_the_released_names_and_shapes_fits(released, prefix, tmp_path):
    flow, tensors = released
    assert len(tensors) == 489
    torch.save({f"{prefix}{name}": value for name, value in tensors.items()}, tmp_path / "flow.pt")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*no-op", category=UserWarning)
        digest = load_initial_flow(flow, str(tmp_path / "flow.pt"))
    assert digest == hashlib.sha256((tmp_path / "flow.pt").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks.7.mlp.mlp.2.weight": (4096, 1024)}, r"blocks.7.mlp.mlp.2.weight has shape \(4096, 1024\) where.*\("),
        ({"pos_emb": None, "input_layer.bias": None}, r"pos_emb is missing \(and 1 more\)"),
        ({"out_layer.gain": (8,)}, "out_layer.gain is not part of the model"),
        (
            {"blocks.10.self_attn.ext_gate": (2,)},
            r"gates on the sources of scene context \(blocks.10.self_attn.ext_gate",
        ),
        ({"blocks.14.self_attn.k_type_bias": (2, 64)}, "blocks.14.self_attn.k_type_bias"),
        ({"module.out_layer.bias": (8,), "out_layer.bias": None}, "out_layer.bias is missing"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_with_what_differs(released, change, message, tmp_path):
    flow, tensors = released
    changed = tensors | {name: shape and torch.zeros(1).expand(shape) for name, shape in change.items()}
    torch.save({name: value for name, value in changed.items() if value is not None}, tmp_path / "flow.pt")
    with pytest.raises(CheckpointError, match=message) as caught:
        load_initial_flow(flow, str(tmp_path / "flow.pt"))
    assert "\n" not in str(caught.value)


def test_a_refused_file_leaves_the_flow_as_it_was(tensors, tmp_path):
    flow = fresh()
    before = {name: value.clone() for name, value in flow.state_dict().items()}
    save_file(tensors | {"out_layer.bias": torch.zeros(3)}, tmp_path / "flow.safetensors")
    with pytest.raises(CheckpointError, match=r"out_layer.bias has shape \(3,\) where the model has"):
        load_initial_flow(flow, str(tmp_path / "flow.safetensors"))
    assert all(value.equal(before[name]) for name, value in flow.state_dict().items())


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["pt", "iscene", "legacy"])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(form, tensors, tmp_path):
    trace = tmp_path / "it_ran"
    bad = tensors | {"pos_emb": Malicious(trace)}
    if form == "iscene":
        file = iscene_folder(tmp_path / "iscene", bad)
        source = tmp_path / "iscene"
    else:
        source = file = tmp_path / "flow.pt"
        torch.save(bad, file, _use_new_zipfile_serialization=form == "pt")
    with pytest.raises(CheckpointError, match=r"holds more than tensors.*nothing of it was run") as caught:
        load_initial_flow(fresh(), str(source))
    assert not trace.exists() and "\n" not in str(caught.value)
    torch.load(file, weights_only=False)
    assert trace.exists()  # the file is as dangerous as it should be for this test


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(2)], "holds a list where named tensors are expected"),
        ({}, "holds an empty mapping"),
        ({"model": {"pos_emb": torch.zeros(2)}}, "holds a dict under 'model'.*save only the state dict"),
        ({"pos_emb": torch.zeros(2, device="meta")}, "pos_emb is not a dense floating-point tensor"),
        ({"pos_emb": torch.zeros(2).to_sparse()}, "pos_emb is not a dense floating-point tensor"),
        ({"pos_emb": torch.zeros(2, dtype=torch.int64)}, "pos_emb is not a dense floating-point tensor"),
    ],
)
def test_a_file_of_other_contents_is_refused_in_one_line(content, message, tmp_path):
    torch.save(content, tmp_path / "flow.pt")
    with pytest.raises(CheckpointError, match=message) as caught:
        load_initial_flow(fresh(), str(tmp_path / "flow.pt"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["flow.pt", "flow.safetensors"])
def test_a_file_that_was_cut_off_is_refused_in_one_line(name, tensors, tmp_path):
    path = tmp_path / name
    (torch.save if name.endswith("pt") else save_file)(tensors, path)
    for length in (0, 10, path.stat().st_size // 2):
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(CheckpointError, match=r"is damaged or|is not a whole") as caught:
            load_initial_flow(fresh(), str(path))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "member", ["../flow.pt", "/flow.pt", "a/../../flow.pt", "..\\flow.pt", "c:flow.pt", "", 3, None]
)
def test_an_iscene_folder_cannot_name_a_file_outside_itself(member, tensors, tmp_path):
    folder = tmp_path / "iscene"
    iscene_folder(folder, tensors)
    torch.save(tensors, tmp_path / "flow.pt")
    member = str(tmp_path / "flow.pt") if member == "/flow.pt" else member
    (folder / "iscene_config.json").write_text(json.dumps({"denoiser_checkpoint": member}))
    with pytest.raises(CheckpointError, match=r"outside its folder|does not name a denoiser_checkpoint"):
        load_initial_flow(fresh(), str(folder))


def test_an_iscene_folder_whose_denoiser_is_missing_or_of_another_kind_is_refused(tensors, tmp_path):
    iscene_folder(tmp_path, tensors).unlink()
    with pytest.raises(CheckpointError, match=r"denoiser.pt, which iscene_config.json names, is missing"):
        load_initial_flow(fresh(), str(tmp_path))
    (tmp_path / "iscene_config.json").write_text(json.dumps({"denoiser_checkpoint": "denoiser.bin"}))
    with pytest.raises(CheckpointError, match=r"neither \.pt nor \.safetensors"):
        load_initial_flow(fresh(), str(tmp_path))


def test_a_run_without_checkpoint_or_with_a_damaged_one_is_refused(tensors, tmp_path):
    open_run(tmp_path / "empty", load_settings("mini"))
    with pytest.raises(CheckpointError, match="has no checkpoint yet"):
        load_initial_flow(fresh(), str(tmp_path / "empty"))
    file = run_folder(tmp_path / "run", {name: value.float() for name, value in tensors.items()})
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_initial_flow(fresh(), str(tmp_path / "run"))


def test_a_flow_of_other_sizes_than_the_run_is_refused(tmp_path, tensors):
    run_folder(tmp_path / "run", {name: value.float() for name, value in tensors.items()})
    flow = SparseStructureFlow(**dataclasses.asdict(load_settings("mini").model))
    with pytest.raises(CheckpointError, match="does not fit SparseStructureFlow"):
        load_initial_flow(flow, str(tmp_path / "run"))


@pytest.mark.parametrize("source", ["./nowhere", "a/b/c", "nowhere", "nowhere.pt", "nowhere.safetensors"])
def test_a_source_that_is_not_there_is_refused_with_what_to_give(source):
    with pytest.raises(CheckpointError, match=r"no folder or file|does not exist"):
        load_initial_flow(fresh(), source)


def test_a_folder_or_file_of_something_else_is_refused_with_what_to_give(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no weights of a flow: a run has settings.json"):
        load_initial_flow(fresh(), str(tmp_path))
    (tmp_path / "ckpts").mkdir()
    with pytest.raises(CheckpointError, match=f"does not hold ckpts/{STEM}.json"):
        load_initial_flow(fresh(), str(tmp_path))
    (tmp_path / "flow.ckpt").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"give a \.safetensors or \.pt file"):
        load_initial_flow(fresh(), str(tmp_path / "flow.ckpt"))
