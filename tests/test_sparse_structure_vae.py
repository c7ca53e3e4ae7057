"""The sparse-structure VAE computes what the published one computes, and loads its files."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from randscene.errors import SpecError
from randscene.train.sparse_structure_vae import SparseStructureDecoder, SparseStructureEncoder, pixel_shuffle_3d

DATA = Path(__file__).parent / "data" / "model"
CONFIG = json.loads((DATA / "vae_small.json").read_text())


@pytest.fixture(scope="module")
def io():
    return load_file(DATA / "vae_small.io.safetensors")


def build(half, **more):
    cls = {"encoder": SparseStructureEncoder, "decoder": SparseStructureDecoder}[half]
    module = cls(**CONFIG[half], **more)
    module.load_state_dict(load_file(DATA / f"vae_small.{half}.safetensors"), strict=True)
    return module.eval()


@pytest.mark.parametrize("gradients", [False, True])
def test_latents_and_logits_equal_the_reference(io, gradients):
    encoder, decoder = build("encoder"), build("decoder")
    with torch.set_grad_enabled(gradients):
        mean, logvar = encoder.moments(io["occupancy_u8"].float())
        torch.testing.assert_close(mean, io["mean"], atol=1e-5, rtol=0)
        torch.testing.assert_close(logvar, io["logvar"], atol=1e-5, rtol=0)
        torch.testing.assert_close(encoder(io["occupancy_u8"].float()), io["mean"], atol=1e-5, rtol=0)
        torch.testing.assert_close(decoder(io["mean"]), io["logits_of_mean"], atol=1e-5, rtol=0)
        torch.testing.assert_close(decoder(io["z_random"]), io["logits_of_z_random"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("cls", "name"),
    [(SparseStructureEncoder, "ss_enc_conv3d_16l8_fp16"), (SparseStructureDecoder, "ss_dec_conv3d_16l8_fp16")],
)
def test_names_shapes_and_types_equal_the_published_checkpoint(cls, name):
    expected = json.loads((DATA / "state_dicts.json").read_text())[name]
    with torch.device("meta"):
        module = cls(**expected["config"]["args"])
    types = {torch.float32: "F32", torch.float16: "F16"}
    found = {key: [list(value.shape), types[value.dtype]] for key, value in module.state_dict().items()}
    assert found == expected["tensors"]
    assert sum(p.numel() for p in module.parameters()) == expected["n_parameters"]


def test_float16_torso_stays_close_to_float32(io):
    encoder = build("encoder", use_fp16=True)
    assert encoder.blocks[0].conv1.weight.dtype == torch.float16
    assert encoder.blocks[0].norm1.weight.dtype == encoder.out_layer[2].weight.dtype == torch.float32
    with torch.no_grad():
        mean = encoder(io["occupancy_u8"].float())
        assert mean.dtype == torch.float32
        torch.testing.assert_close(mean, io["mean"], atol=2e-2, rtol=0)
        encoder.set_torso_dtype(torch.float32)
        torch.testing.assert_close(encoder(io["occupancy_u8"].float()), io["mean"], atol=2e-3, rtol=0)


def test_pixel_shuffle_puts_each_channel_at_its_offset():
    x = torch.arange(16.0).view(1, 16, 1, 1, 1)
    out = pixel_shuffle_3d(x, 2)
    assert out.shape == (1, 2, 2, 2, 2)
    assert out[0, 1, 1, 0, 1] == 8 + 5


def test_other_normalisations_are_refused():
    with pytest.raises(SpecError, match="norm_type"):
        SparseStructureEncoder(**(CONFIG["encoder"] | {"norm_type": "group"}))


def test_fresh_weights_leave_the_global_stream_alone_and_are_finite():
    state = torch.random.get_rng_state()
    module = SparseStructureDecoder(**CONFIG["decoder"])
    assert torch.random.get_rng_state().equal(state)
    assert all(value.isfinite().all() for value in module.state_dict().values())
