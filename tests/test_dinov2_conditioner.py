"""The frozen image encoder computes what DINOv2 with registers computes, from every form of its weights."""

import copy
import dataclasses
import hashlib
import json
import math
import pickle
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from randscene.errors import CheckpointError, SpecError
from randscene.train.dinov2_conditioner import (
    SOURCE,
    Architecture,
    empty_backbone,
    from_torch_hub,
    load_dinov2,
    load_released,
    random_dinov2,
)
from randscene.train.image_conditioner import build_conditioner
from randscene.train.settings import ConditionerSettings, load_settings

pytest.importorskip("transformers")

CHANNELS, BLOCKS, HEADS, PATCH, SIDE = 128, 3, 2, 14, 5
SIZE = PATCH * SIDE
SETTINGS = ConditionerSettings(
    kind="dinov2", image_size=SIZE, patch_size=PATCH, channels=CHANNELS, num_blocks=BLOCKS, num_heads=HEADS
)
CONFIG = {
    "architectures": ["Dinov2WithRegistersModel"],
    "model_type": "dinov2_with_registers",
    "hidden_size": CHANNELS,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": HEADS,
    "mlp_ratio": 4,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "image_size": SIZE,
    "patch_size": PATCH,
    "num_register_tokens": 4,
    "layerscale_value": 1.0,
    "torch_dtype": "float32",
    "transformers_version": "4.47.0.dev0",
}


def hub_tensors() -> dict[str, torch.Tensor]:
    """Random weights under torch.hub's names, written out by hand; nothing is zero or one."""
    generator = torch.Generator().manual_seed(7)

    def draw(*shape, scale=0.3, mean=0.0):
        return torch.randn(shape, generator=generator) * scale + mean

    def linear(name, out, inner):
        return {f"{name}.weight": draw(out, inner, scale=inner**-0.5), f"{name}.bias": draw(out, scale=0.1)}

    def norm(name):
        return {f"{name}.weight": draw(CHANNELS, mean=1.0), f"{name}.bias": draw(CHANNELS)}

    tensors = {
        "cls_token": draw(1, 1, CHANNELS),
        "pos_embed": draw(1, 1 + SIDE**2, CHANNELS),
        "register_tokens": draw(1, 4, CHANNELS),
        "mask_token": draw(1, CHANNELS),
        "patch_embed.proj.weight": draw(CHANNELS, 3, PATCH, PATCH, scale=(3 * PATCH**2) ** -0.5),
        "patch_embed.proj.bias": draw(CHANNELS),
    }
    for index in range(BLOCKS):
        block = (
            norm("norm1")
            | linear("attn.qkv", 3 * CHANNELS, CHANNELS)
            | linear("attn.proj", CHANNELS, CHANNELS)
            | {"ls1.gamma": draw(CHANNELS, mean=0.8)}
            | norm("norm2")
            | linear("mlp.fc1", 4 * CHANNELS, CHANNELS)
            | linear("mlp.fc2", CHANNELS, 4 * CHANNELS)
            | {"ls2.gamma": draw(CHANNELS, mean=0.8)}
        )
        tensors |= {f"blocks.{index}.{name}": value for name, value in block.items()}
    return tensors | norm("norm")


def plain_tokens(w: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """The tokens by the formulas of the paper, straight from torch.hub's names, in float64."""
    w = {name: value.double() for name, value in w.items()}

    def normed(x, name):
        x = x - x.mean(-1, keepdim=True)
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64)
    std = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64)
    x = (images.double().permute(0, 2, 3, 1) - mean) / std
    batch = len(x)
    # (B, row, y, column, x, channel) to (B, patches, channel y x)
    x = x.view(batch, SIDE, PATCH, SIDE, PATCH, 3).permute(0, 1, 3, 5, 2, 4).reshape(batch, SIDE**2, 3 * PATCH**2)
    x = x @ w["patch_embed.proj.weight"].reshape(CHANNELS, -1).T + w["patch_embed.proj.bias"]
    x = torch.cat([w["cls_token"].expand(batch, 1, CHANNELS), x], 1) + w["pos_embed"]
    x = torch.cat([x[:, :1], w["register_tokens"].expand(batch, 4, CHANNELS), x[:, 1:]], 1)
    for index in range(BLOCKS):
        at = f"blocks.{index}."
        qkv = linear(normed(x, f"{at}norm1"), f"{at}attn.qkv")
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in qkv.split(CHANNELS, -1))
        weights = torch.exp(q @ k.transpose(-1, -2) / math.sqrt(CHANNELS // HEADS))
        attended = (weights / weights.sum(-1, keepdim=True)) @ v
        x = x + w[f"{at}ls1.gamma"] * linear(attended.transpose(1, 2).flatten(2), f"{at}attn.proj")
        h = linear(normed(x, f"{at}norm2"), f"{at}mlp.fc1")
        h = h * 0.5 * (1 + torch.erf(h / math.sqrt(2)))
        x = x + w[f"{at}ls2.gamma"] * linear(h, f"{at}mlp.fc2")
    x = x - x.mean(-1, keepdim=True)
    return (x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()).float()


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return hub_tensors()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def torch_hub_file(tmp_path_factory, weights):
    path = tmp_path_factory.mktemp("hub") / "dinov2_vitl14_reg4_pretrain.pth"
    torch.save(weights, path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory, weights):
    """A folder in the layout of the Hugging Face repository, its names written out here, not by the loader."""
    named = {
        "embeddings.cls_token": weights["cls_token"],
        "embeddings.mask_token": weights["mask_token"],
        "embeddings.position_embeddings": weights["pos_embed"],
        "embeddings.register_tokens": weights["register_tokens"],
        "embeddings.patch_embeddings.projection.weight": weights["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": weights["patch_embed.proj.bias"],
        "layernorm.weight": weights["norm.weight"],
        "layernorm.bias": weights["norm.bias"],
    }
    for index in range(BLOCKS):
        at, to = f"blocks.{index}", f"encoder.layer.{index}"
        for kind in ("weight", "bias"):
            qkv = weights[f"{at}.attn.qkv.{kind}"]
            for number, part in enumerate(("query", "key", "value")):
                rows = slice(number * CHANNELS, (number + 1) * CHANNELS)
                named[f"{to}.attention.attention.{part}.{kind}"] = qkv[rows].clone()
            named[f"{to}.attention.output.dense.{kind}"] = weights[f"{at}.attn.proj.{kind}"]
            for name in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                named[f"{to}.{name}.{kind}"] = weights[f"{at}.{name}.{kind}"]
        for name in ("1", "2"):
            named[f"{to}.layer_scale{name}.lambda1"] = weights[f"{at}.ls{name}.gamma"]
    path = tmp_path_factory.mktemp("dinov2")
    save_file(named, path / "model.safetensors", metadata={"format": "pt"})
    (path / "config.json").write_text(json.dumps(CONFIG))
    return path


@pytest.mark.parametrize("form", ["folder", "torch_hub_file"])
def test_tokens_equal_a_plain_implementation_from_either_form_of_the_weights(form, weights, images, request):
    path = request.getfixturevalue(form)
    conditioner = load_dinov2(str(path))
    tokens = conditioner(images)
    assert tokens.shape == (2, 1 + 4 + SIDE**2, CHANNELS) and tokens.dtype == torch.float32
    torch.testing.assert_close(tokens, plain_tokens(weights, images), atol=2e-5, rtol=0)
    file = path / "model.safetensors" if form == "folder" else path
    assert conditioner.weights_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_every_tensor_of_both_forms_is_used_once(weights, folder):
    renamed, stored = from_torch_hub(weights), load_file(folder / "model.safetensors")
    assert renamed.keys() == stored.keys()
    assert all(renamed[name].equal(stored[name]) for name in stored)
    assert from_torch_hub({"head.weight": torch.zeros(2)}).keys() == {"head.weight"}


def test_the_position_table_is_used_as_stored_at_its_own_size_and_interpolated_at_others(folder, images, monkeypatch):
    conditioner, calls = load_dinov2(str(folder)), []
    real = torch.nn.functional.interpolate
    monkeypatch.setattr(torch.nn.functional, "interpolate", lambda *a, **k: calls.append(k["size"]) or real(*a, **k))
    conditioner(images)
    assert calls == []
    tokens = conditioner(torch.nn.functional.pad(images, (0, 2 * PATCH, 0, 2 * PATCH)))
    assert calls == [(SIDE + 2, SIDE + 2)] and tokens.shape == (2, 5 + (SIDE + 2) ** 2, CHANNELS)
    for broken in (images[:, :, :-1, :-1], images[:, :, :, :PATCH], images[:, :1], images[0]):
        with pytest.raises(ValueError, match=r"images must be|side of images"):
            conditioner(broken)


def test_the_released_size_gives_1374_tokens_without_interpolation(monkeypatch):
    settings = dataclasses.replace(load_settings("iscene").conditioner, channels=64, num_blocks=1, num_heads=1)
    conditioner = random_dinov2(settings, seed=0)
    monkeypatch.setattr(torch.nn.functional, "interpolate", lambda *a, **k: pytest.fail("interpolated"))
    assert conditioner(torch.zeros(1, 3, 518, 518)).shape == (1, 1374, 64)


def test_the_released_architecture_has_the_released_names_and_shapes():
    expected = {"cls_token": (1, 1, 1024), "pos_embed": (1, 1370, 1024), "register_tokens": (1, 4, 1024)}
    expected |= {
        "mask_token": (1, 1024),
        "patch_embed.proj.weight": (1024, 3, 14, 14),
        "patch_embed.proj.bias": (1024,),
        "norm.weight": (1024,),
        "norm.bias": (1024,),
    }
    for index in range(24):
        shapes = {"attn.qkv": (3072, 1024), "attn.proj": (1024, 1024), "mlp.fc1": (4096, 1024), "mlp.fc2": (1024, 4096)}
        for name, shape in shapes.items():
            expected[f"blocks.{index}.{name}.weight"] = shape
            expected[f"blocks.{index}.{name}.bias"] = shape[:1]
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "ls1.gamma", "ls2.gamma"):
            expected[f"blocks.{index}.{name}"] = (1024,)
    released = from_torch_hub({name: torch.empty(shape, device="meta") for name, shape in expected.items()})
    assert len(released) == 8 + 24 * 18
    sizes = {"channels": 1024, "num_blocks": 24, "num_heads": 16, "patch_size": 14, "image_size": 518}
    backbone = empty_backbone(Architecture(**sizes))
    load_released(backbone, released, "the released file")
    assert len(backbone.state_dict()) == len(released)
    with pytest.raises(CheckpointError, match=r"embeddings.position_embeddings has shape \(1, 257, 1024\)"):
        load_released(backbone, released | {"embeddings.position_embeddings": torch.empty(1, 257, 1024)}, "a file")


def test_tokens_are_normalised_frozen_and_without_gradients(images):
    conditioner = random_dinov2(SETTINGS, seed=3)
    outer = torch.nn.ModuleList([conditioner]).train()
    assert outer.training and not any(module.training for module in conditioner.modules())
    assert conditioner.frozen and not any(p.requires_grad for p in conditioner.parameters())
    tokens = conditioner(images.requires_grad_(False).clone().requires_grad_(True))
    assert not tokens.requires_grad
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(tokens.shape[:2]), atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens.var(-1, unbiased=False), torch.ones(tokens.shape[:2]), atol=1e-3, rtol=0)


def test_bfloat16_autocast_gives_bfloat16_tokens_near_the_float32_ones(images):
    conditioner = random_dinov2(SETTINGS, seed=3)
    exact = conditioner(images)
    with torch.autocast("cpu", torch.bfloat16):
        tokens = conditioner(images)
    assert tokens.dtype == torch.bfloat16
    error = (tokens.float() - exact).abs()
    assert 0 < error.mean() < 0.02
    with torch.no_grad():
        assert conditioner(images).equal(exact)


def test_random_weights_follow_from_the_seed_alone_and_leave_the_global_stream():
    before = torch.random.get_rng_state()
    first = random_dinov2(SETTINGS, seed=5)
    assert torch.random.get_rng_state().equal(before)
    torch.manual_seed(99)
    again, other = random_dinov2(SETTINGS, seed=5), random_dinov2(SETTINGS, seed=6)
    torch.random.set_rng_state(before)
    state = first.state_dict()
    assert first.weights_sha256 is None and all(value.isfinite().all() for value in state.values())
    assert all(value.equal(again.state_dict()[name]) for name, value in state.items())
    name = "backbone.embeddings.cls_token"
    assert not state[name].equal(other.state_dict()[name])
    copied = copy.deepcopy(first)
    assert copied.weights_sha256 is None and copied.state_dict()[name].equal(state[name])


def test_settings_choose_the_encoder_and_must_fit_its_weights(folder, images):
    settings = dataclasses.replace(SETTINGS, source=str(folder))
    assert build_conditioner(settings, seed=0)(images).equal(load_dinov2(str(folder))(images))
    for name, value in {"channels": 64, "num_blocks": 4, "num_heads": 4, "patch_size": 10}.items():
        with pytest.raises(SpecError, match=rf"conditioner\.{name}: .* has \d+, not {value}"):
            build_conditioner(dataclasses.replace(settings, image_size=SIZE, **{name: value}), seed=0)
    by_seed = build_conditioner(dataclasses.replace(SETTINGS, source="random"), seed=5)
    assert by_seed(images).equal(random_dinov2(SETTINGS, seed=5)(images))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask_token": None}, "embeddings.mask_token is missing"),
        ({"head.weight": torch.zeros(3)}, "head.weight is not part of the model"),
        ({"blocks.1.mlp.fc2.bias": torch.zeros(3)}, r"encoder.layer.1.mlp.fc2.bias has shape \(3,\)"),
        ({"blocks.2.norm1.weight": None}, "encoder.layer.2.norm1.weight is missing"),
        ({"pos_embed": None}, "does not hold a DINOv2 with registers.*position_embeddings"),
        ({"pos_embed": torch.zeros(1, 25, CHANNELS)}, r"position_embeddings has shape \(1, 25, 128\)"),
        ({"pos_embed": torch.zeros(1, 1, CHANNELS)}, "image_size is 0"),
        ({"patch_embed.proj.weight": torch.zeros(3)}, "does not hold a DINOv2 with registers"),
        ({"register_tokens": None}, "does not hold a DINOv2 with registers.*register_tokens"),
        ({"cls_token": 3}, "holds a int under 'cls_token'"),
    ],
)
def test_a_torch_hub_file_that_does_not_fit_is_refused_with_what_differs(change, message, weights, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({name: value for name, value in (weights | change).items() if value is not None}, path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_dinov2(str(path))
    assert "\n" not in str(caught.value)


class Malicious:
    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path, weights):
    path, trace = tmp_path / "weights.pth", tmp_path / "it_ran"
    torch.save(weights | {"mask_token": Malicious(trace)}, path)
    with pytest.raises(CheckpointError, match=r"holds more than tensors.*nothing of it was run") as caught:
        load_dinov2(str(path))
    assert not trace.exists() and "\n" not in str(caught.value)
    # The same bytes do run where they are read without that care: the test would see it.
    torch.load(path, weights_only=False)["mask_token"].close()
    assert trace.exists()


def test_a_folder_is_read_without_pickle(folder, tmp_path):
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Malicious(tmp_path / "it_ran")))
    with pytest.raises(CheckpointError, match=r"does not hold config.json and model.safetensors: copy both"):
        load_dinov2(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(pickle.dumps(Malicious(tmp_path / "it_ran")))
    with pytest.raises(CheckpointError, match="is not a whole safetensors file"):
        load_dinov2(str(tmp_path))
    assert not (tmp_path / "it_ran").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "dinov2"}, "describes 'dinov2', not a DINOv2 with registers"),
        ({"hidden_size": 64}, "does not fit Dinov2WithRegistersModel"),
        ({"num_attention_heads": 3}, "3 heads do not divide 128 channels"),
        ({"num_hidden_layers": 2}, "encoder.layer.2.*is not part of the model"),
        ({"use_swiglu_ffn": True}, "use_swiglu_ffn is True; only False is supported"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps is 1e-05; only 1e-06 is supported"),
        ({"patch_size": 0}, "patch_size is 0"),
        ({"patch_size": 13}, "patches of 13 do not divide 70 pixels"),
        ({"image_size": "70"}, "image_size is '70'"),
        ({"image_size": [70, 70]}, r"image_size is \[70, 70\]"),
    ],
)
def test_a_configuration_of_something_else_is_refused_in_one_line(config, message, folder, tmp_path):
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | config))
    with pytest.raises(CheckpointError, match=message) as caught:
        load_dinov2(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_the_preset_fetches_two_files_of_the_released_repository_and_no_others(folder, monkeypatch):
    hub, asked = pytest.importorskip("huggingface_hub"), []
    monkeypatch.setattr(hub, "hf_hub_download", lambda *names: asked.append(names) or str(folder / names[1]))
    with pytest.raises(
        SpecError, match=r"conditioner.channels: facebook/dinov2-with-registers-large has 128, not 1024"
    ):
        build_conditioner(load_settings("iscene").conditioner, seed=0)
    assert asked == [(SOURCE, "config.json"), (SOURCE, "model.safetensors")]


def test_without_the_network_one_line_says_how_to_provide_the_weights(monkeypatch):
    hub = pytest.importorskip("huggingface_hub")

    def fail(*names):
        raise hub.errors.LocalEntryNotFoundError("not in the cache,\nand no network")

    monkeypatch.setattr(hub, "hf_hub_download", fail)
    with pytest.raises(
        CheckpointError, match=r"cannot fetch config.json of facebook/.*\(not in the cache,\)"
    ) as caught:
        load_dinov2()
    assert "put config.json and model.safetensors in a folder of your own" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_transformers_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(CheckpointError, match=r"needs the package transformers, 4\.57 or newer: pip install") as caught:
        random_dinov2(SETTINGS, seed=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["./nowhere", "a/b/c", "nowhere.pth", "nowhere"])
def test_a_source_that_is_not_there_is_refused_with_what_to_give(source):
    with pytest.raises(CheckpointError, match=r"no folder or file|is missing"):
        load_dinov2(source)


def test_importing_the_room_or_the_mini_encoder_loads_no_transformers():
    code = (
        "import sys, randscene.train; assert 'torch' not in sys.modules\n"
        "from randscene.train.image_conditioner import MiniConditioner\n"
        "import randscene.train.dinov2_conditioner\n"
        "assert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
