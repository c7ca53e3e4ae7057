"""The mini VAE's training: packs keep what they are given, held-out assets stay out, runs go on, folding is exact."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_fixtures import make_dataset

from randscene.errors import CheckpointError, DatasetError
from randscene.shards import open_dataset
from randscene.train import mini_vae, structure_encoder
from randscene.train.mini_vae import MiniVaeSettings, MiniVaeTrainer
from randscene.train.mini_vae_network import Grids, fold_latent_affine, fresh_vae, vae_loss
from randscene.train.voxel_pack import dataset_grids, load_pack, pack_grids, save_pack

CPU = torch.device("cpu")


def boxes(scenes=40):
    """Scenes of two random box shells, and each of them alone."""
    rng = np.random.default_rng(0)
    axis = np.stack(np.meshgrid(*[np.arange(64)] * 3, indexing="ij"), -1)
    for scene in range(scenes):
        parts = []
        for _ in range(2):
            half = rng.integers(3, 9)
            centre = rng.integers(12, 52, 3)
            parts.append(np.argwhere(np.abs(axis - centre).max(-1) == half).astype(np.uint8))
        yield np.concatenate(parts), True, [f"box{scene}", f"box{scene + 1}"]
        for number, part in enumerate(parts):
            yield part, False, [f"box{scene + number}"]


@pytest.fixture(scope="module")
def pack():
    return pack_grids(boxes())


def tiny(**more):
    return MiniVaeSettings(
        **{
            "max_steps": 2,
            "batch": 8,
            "crop": 16,
            "holdout": 0.3,
            "evaluation_grids": 1,
            "moment_grids": 2,
            "bf16": False,
            **more,
        }
    )


def test_a_pack_gives_back_every_voxel_after_a_trip_to_disk(pack, tmp_path):
    save_pack(pack, tmp_path / "grids.npz")
    loaded = load_pack(tmp_path / "grids.npz")
    assert len(loaded) == 120
    assert loaded.is_scene.sum() == 40
    grids = Grids(loaded, CPU)
    for row, (coords, is_scene, uids) in enumerate(boxes()):
        dense = np.zeros((64, 64, 64), np.uint8)
        dense[tuple(coords.T)] = 1
        np.testing.assert_array_equal(grids[torch.tensor([row])][0], dense)
        assert loaded.is_scene[row] == is_scene
        owners = loaded.members[loaded.offsets[row] : loaded.offsets[row + 1]]
        assert loaded.uids[owners].tolist() == uids


@settings(max_examples=25, deadline=None)
@given(fraction=st.floats(0, 1))
def test_no_asset_of_a_held_out_instance_is_in_training(pack, fraction):
    train, held = pack.split(fraction)

    def assets(rows):
        return {int(m) for row in rows for m in pack.members[pack.offsets[row] : pack.offsets[row + 1]]}

    assert not assets(held[~pack.is_scene[held]]) & assets(train)
    assert len(np.intersect1d(train, held)) == 0


def test_packing_data_sets_reads_all_scenes_and_instances_of_every_split(tmp_path):
    folder = make_dataset(tmp_path / "data", scenes=2, views=2, splits=("train", "val"), resolution=32)
    grids = list(dataset_grids([str(folder)]))
    parts = [open_dataset(folder, split=split) for split in ("train", "val")]
    samples = [part[i] for part in parts for i in range(len(part))]
    assert len(grids) == sum(1 + sample.n_instances for sample in samples)
    first = samples[0]
    uids = [item["uid"] for item in first.meta["instances"]]
    np.testing.assert_array_equal(np.unique(grids[0][0], axis=0), first.scene_coords())
    np.testing.assert_array_equal(grids[2][0], first.instance_coords(2))
    assert grids[0][1:] == (True, uids)
    assert grids[2][1:] == (False, uids[1:2])
    assert len(list(dataset_grids([str(folder)], every=2))) < len(grids)


def test_every_batch_is_spread_over_the_eight_symmetries_about_z(pack):
    grids = Grids(pack, CPU)
    batch = grids.batch(torch.zeros(8, dtype=torch.int64), 64, torch.Generator())
    assert len({part.numpy().tobytes() for part in batch}) == 8
    assert len({tuple(part[0].sum((0, 1)).tolist()) for part in batch}) == 1  # heights stay as they are


def test_a_crop_holds_an_occupied_voxel_and_lies_on_the_latent_grid(pack):
    grids = Grids(pack, CPU)
    index = torch.arange(0, 120, 3)
    crops = grids.batch(index, 16, torch.Generator().manual_seed(0))
    assert crops.shape == (40, 1, 16, 16, 16)
    assert (crops.sum((1, 2, 3, 4)) > 0).all()


def test_folding_an_affine_map_changes_latents_by_it_and_the_decoded_inside_not_at_all():
    vae = fresh_vae(CPU, 0)
    generator = torch.Generator().manual_seed(1)
    grid = (torch.rand(2, 1, 32, 32, 32, generator=generator) < 0.05).float()
    mean, std = torch.randn(8, generator=generator), torch.rand(8, generator=generator) + 0.5
    with torch.no_grad():
        z, logvar = vae.encoder.moments(grid)
        first = vae.decoder.input_layer(z)
        centred = vae.decoder(z - z.mean((0, 2, 3, 4), keepdim=True))
        fold_latent_affine(vae, mean, std)
        folded, folded_logvar = vae.encoder.moments(grid)
        column = (slice(None), None, None, None)
        torch.testing.assert_close(folded, (z - mean[column]) / std[column], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(folded_logvar, logvar - 2 * std.log()[column], atol=1e-4, rtol=1e-4)
        inside = (..., slice(1, -1), slice(1, -1), slice(1, -1))
        second = vae.decoder.input_layer(folded)
        torch.testing.assert_close(second[inside], first[inside], atol=1e-4, rtol=1e-4)
    assert centred.isfinite().all()


def test_the_loss_falls_towards_zero_as_the_logits_approach_the_grid():
    grid = (torch.rand(3, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.1).float()
    zero = torch.zeros(3, 8, 2, 2, 2)
    losses = [vae_loss((grid * 2 - 1) * sharp, zero, zero, grid, 1.0).item() for sharp in (-5, 0, 1, 5, 20)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 1e-4
    assert vae_loss((grid * 2 - 1) * 20, zero + 1, zero, grid, 1.0).item() == pytest.approx(0.5, abs=1e-3)


def test_a_resumed_run_ends_with_the_weights_of_an_undisturbed_one(pack, tmp_path):
    whole = MiniVaeTrainer(pack, tiny(max_steps=3), CPU)
    whole.run(tmp_path / "whole.safetensors")
    first = MiniVaeTrainer(pack, tiny(max_steps=3), CPU)
    assert not first.run(tmp_path / "half.safetensors", stop_after=0)  # one step, then the time is over
    second = MiniVaeTrainer(pack, tiny(max_steps=3, seed=9), CPU)
    second.restore(tmp_path / "half.safetensors")
    assert second.step == 1
    assert second.run(tmp_path / "half.safetensors")
    for name, value in whole.ema.state_dict().items():
        torch.testing.assert_close(second.ema.state_dict()[name], value, atol=1e-6, rtol=1e-5)


def test_the_command_writes_weights_that_the_encoder_loads(pack, tmp_path, monkeypatch):
    save_pack(pack, tmp_path / "grids.npz")
    out = tmp_path / "mini_ss_vae.safetensors"
    options = ["--max-steps", "1", "--batch", "8", "--crop", "16", "--holdout", "0.3"]
    options += ["--evaluation-grids", "1", "--moment-grids", "2"]
    command = ["--data", str(tmp_path / "grids.npz"), "--out", str(out), "--device", "cpu", *options]
    assert mini_vae.main(command) == 0
    assert out.stat().st_size <= 3_000_000
    config = json.loads(out.with_suffix(".json").read_text())
    assert set(config["held_out_mean_iou"]) == {"scenes", "instances"}
    monkeypatch.setattr(structure_encoder, "MINI_WEIGHTS", out)
    latents = structure_encoder.encode_voxels(structure_encoder.load_encoder(), [next(boxes())[0]])
    assert structure_encoder.decode_latents(structure_encoder.load_decoder(), latents).shape == (1, 64, 64, 64)


def test_a_missing_checkpoint_or_pack_and_too_little_data_give_one_line(pack, tmp_path, caplog):
    with pytest.raises(CheckpointError, match="--resume"):
        MiniVaeTrainer(pack, tiny(), CPU).restore(tmp_path / "none.safetensors")
    (tmp_path / "half.safetensors").write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match="is damaged"):
        MiniVaeTrainer(pack, tiny(), CPU).restore(tmp_path / "half.safetensors")
    with pytest.raises(DatasetError, match="--pack"):
        load_pack(tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"no zip")
    save_pack(pack, tmp_path / "spoilt.npz")
    content = bytearray((tmp_path / "spoilt.npz").read_bytes())
    content[100:200] = bytes(100)
    (tmp_path / "spoilt.npz").write_bytes(content)
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name in ("bad.npz", "spoilt.npz", "array.npy"):
        with pytest.raises(DatasetError, match="not a voxel pack"):
            load_pack(tmp_path / name)
    with pytest.raises(DatasetError, match="too few"):
        MiniVaeTrainer(pack_grids(list(boxes(1))), tiny(holdout=0.0), CPU)
    assert mini_vae.main(["--data", str(tmp_path / "bad.npz"), "--out", str(tmp_path / "x.safetensors")]) == 1
    assert "not a voxel pack" in caplog.text
