"""Voxels to latents and back: reproducible, from the embedded model or from files in the hub's layout."""

import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from randscene.errors import CheckpointError, DatasetError
from randscene.files import sha256_of
from randscene.train.sparse_structure_vae import SparseStructureDecoder, SparseStructureEncoder
from randscene.train.structure_encoder import (
    MINI_WEIGHTS,
    decode_latents,
    encode_voxels,
    load_decoder,
    load_encoder,
)

SMALL = {"latent_channels": 8, "num_res_blocks": 1, "num_res_blocks_middle": 1, "use_fp16": True}
HALVES = {
    "ss_enc_conv3d_16l8_fp16": (SparseStructureEncoder, {"in_channels": 1, "channels": [8, 12, 16], **SMALL}),
    "ss_dec_conv3d_16l8_fp16": (SparseStructureDecoder, {"out_channels": 1, "channels": [16, 12, 8], **SMALL}),
}


def shell(kind, half, centre=(32, 32, 32)):
    """(V, 3) uint8 voxels of a sphere's or a box's surface."""
    p = np.stack(np.meshgrid(*[np.arange(64)] * 3, indexing="ij"), -1) - np.array(centre)
    d = np.linalg.norm(p, axis=-1) if kind == "sphere" else np.abs(p).max(-1)
    return np.argwhere(np.abs(d - half) < 0.6).astype(np.uint8)


GRIDS = [
    shell("sphere", 20),
    shell("box", 9, (20, 40, 30)),
    np.zeros((0, 3), np.uint8),
    shell("sphere", 6, (50, 12, 9)),
]


@pytest.fixture(scope="module")
def hub_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    (folder / "ckpts").mkdir()
    for stem, (cls, args) in HALVES.items():
        module = cls(**args)
        module.reset_parameters(torch.Generator().manual_seed(1))
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if name.endswith("conv2.weight"):
                    parameter.normal_(std=0.05, generator=torch.Generator().manual_seed(2))
        save_file(module.state_dict(), folder / "ckpts" / f"{stem}.safetensors")
        (folder / "ckpts" / f"{stem}.json").write_text(json.dumps({"name": cls.__name__, "args": args}))
    return folder


@pytest.fixture(scope="module")
def mini():
    return load_encoder(), load_decoder()


def test_a_folder_in_the_hub_layout_loads_and_runs_in_float32_on_a_cpu(hub_folder):
    encoder, decoder = load_encoder(str(hub_folder)), load_decoder(str(hub_folder))
    weights = hub_folder / "ckpts" / "ss_enc_conv3d_16l8_fp16.safetensors"
    assert (encoder.name, encoder.sha256) == (str(hub_folder), sha256_of(weights))
    assert encoder.config["args"]["channels"] == [8, 12, 16]
    assert {p.dtype for p in encoder.module.parameters()} == {torch.float32}
    latents = encode_voxels(encoder, GRIDS)
    assert latents.shape == (4, 8, 16, 16, 16)
    assert latents.dtype == np.float16
    x = torch.zeros(1, 1, 64, 64, 64)
    x[0, 0, GRIDS[0][:, 0].astype(int), GRIDS[0][:, 1].astype(int), GRIDS[0][:, 2].astype(int)] = 1
    np.testing.assert_allclose(latents[0], encoder.module(x)[0], atol=2e-3)
    logits = decode_latents(decoder, latents)
    assert logits.shape == (4, 64, 64, 64)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits[1], decoder.module(torch.from_numpy(latents[1:2]).float())[0, 0], atol=1e-4)


def test_latents_of_a_grid_do_not_depend_on_its_company_the_batch_or_the_threads(mini):
    encoder, decoder = mini
    threads = torch.get_num_threads()
    together = encode_voxels(encoder, GRIDS)
    try:
        torch.set_num_threads(1)
        alone = np.concatenate([encode_voxels(encoder, [grid], batch_size=1) for grid in GRIDS])
        logits = decode_latents(decoder, together[:2])
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(logits[1:], decode_latents(decoder, together[1:2]))
    shuffled = GRIDS[0][np.random.default_rng(0).permutation(len(GRIDS[0]))]
    np.testing.assert_array_equal(encode_voxels(encoder, [GRIDS[3], shuffled])[1], together[0])


def test_the_embedded_model_is_small_and_gives_shapes_back(mini):
    assert MINI_WEIGHTS.stat().st_size <= 3_000_000
    encoder, decoder = mini
    assert encoder.name == "mini"
    assert encoder.sha256 == decoder.sha256 == sha256_of(MINI_WEIGHTS)
    latents = encode_voxels(encoder, GRIDS)
    found = decode_latents(decoder, latents) > 0
    assert found[2].sum() == 0
    for grid, occupied in zip(GRIDS, found, strict=True):
        if len(grid):
            truth = np.zeros((64, 64, 64), bool)
            truth[tuple(grid.T)] = True
            assert (truth & occupied).sum() / (truth | occupied).sum() > 0.8


def test_no_grids_give_no_latents(mini):
    assert encode_voxels(mini[0], []).shape == (0, 8, 16, 16, 16)
    assert decode_latents(mini[1], np.zeros((0, 8, 16, 16, 16), np.float16)).shape == (0, 64, 64, 64)


@pytest.mark.parametrize(
    "grid", [np.zeros((5, 2), np.uint8), np.zeros((5, 3), np.int64), np.full((5, 3), 64, np.uint8)]
)
def test_voxels_of_another_form_are_refused(mini, grid):
    with pytest.raises(DatasetError, match=r"\(V, 3\) uint8"):
        encode_voxels(mini[0], [grid])


def test_latents_of_another_shape_are_refused(mini):
    with pytest.raises(DatasetError, match=r"\(n, 8, 16, 16, 16\)"):
        decode_latents(mini[1], np.zeros((8, 16, 16, 16), np.float16))


def test_missing_wrong_or_damaged_files_give_one_line_that_says_what_to_do(hub_folder, tmp_path):
    with pytest.raises(CheckpointError, match="no folder") as error:
        load_encoder(str(tmp_path / "nowhere"))
    assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match="does not hold ckpts/ss_enc"):
        load_encoder(str(tmp_path))
    ckpts = tmp_path / "ckpts"
    ckpts.mkdir()
    for file in (hub_folder / "ckpts").iterdir():
        (ckpts / file.name).write_bytes(file.read_bytes())
    (ckpts / "ss_enc_conv3d_16l8_fp16.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(CheckpointError, match="safetensors"):
        load_encoder(str(tmp_path))
    (ckpts / "ss_dec_conv3d_16l8_fp16.json").write_text("{")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        load_decoder(str(tmp_path))
    (ckpts / "ss_dec_conv3d_16l8_fp16.json").write_bytes((ckpts / "ss_enc_conv3d_16l8_fp16.json").read_bytes())
    with pytest.raises(CheckpointError, match="SparseStructureEncoder"):
        load_decoder(str(tmp_path))


def test_a_hub_id_without_the_hub_package_says_how_to_provide_the_files(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match=r"huggingface_hub.*ckpts/ss_enc_conv3d_16l8_fp16.json") as error:
        load_encoder("microsoft/TRELLIS-image-large")
    assert "\n" not in str(error.value)
