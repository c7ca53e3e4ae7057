"""Exported weights: all that prediction and first weights need, and nothing that training would."""

from pathlib import Path

import numpy as np
import pytest
import torch
from shard_fixtures import make_dataset
from tiny_model import TINY_MODEL
from typer.testing import CliRunner

from randscene.cli.main import app
from randscene.errors import CheckpointError, RandsceneError
from randscene.train.checkpoint import latest_checkpoint, read_state, read_tensors
from randscene.train.export import export_weights
from randscene.train.predict import Predictor
from randscene.train.settings import load_settings, with_overrides
from randscene.train.trainer import train

TINY = with_overrides(
    load_settings("mini"),
    [
        *TINY_MODEL,
        "sampling.steps=2",
        "data.scenes_per_step=1",
        "data.instances_per_scene=1",
        "optimiser.steps=2",
        "checkpoint_every=1",
    ],
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "set", scenes=2, views=1, resolution=32, splits=("train",))


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    train([dataset], TINY, folder, device="cpu")
    return folder


def test_exported_weights_predict_what_the_run_does_and_begin_a_run_with_its_averages(run, dataset, tmp_path):
    from randscene.shards import open_dataset

    out = tmp_path / "weights"
    result = CliRunner().invoke(app, ["export", str(run), "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 0 and "step 2" in result.output
    kept = read_state(latest_checkpoint(out))
    assert sorted(kept.files) == ["conditioner_ema", "model_ema"]
    views = [Predictor(place, device="cpu") for place in (run, out)]
    sample = open_dataset(dataset, split="train")[0]
    first, second = (one.logits([one.view(sample)])[0] for one in views)
    np.testing.assert_array_equal(first, second)
    begun = tmp_path / "begun"
    train([dataset], with_overrides(TINY, [f"init={out}", "optimiser.lr=1e-30"]), begun, device="cpu")
    for name in ("model_ema", "conditioner_ema"):
        averages = read_tensors(latest_checkpoint(run), name)
        for key, value in read_tensors(latest_checkpoint(begun), name).items():
            torch.testing.assert_close(value, averages[key], atol=1e-6, rtol=0)


def test_half_precision_rounds_every_weight_and_halves_the_files(run, tmp_path):
    whole, half = export_weights(run, tmp_path / "whole"), export_weights(run, tmp_path / "half", half=True)
    for name in ("model_ema", "conditioner_ema"):
        exact, rounded = read_tensors(whole, name), read_tensors(half, name)
        assert all(
            value.dtype == torch.float16 and torch.equal(value, exact[key].half()) for key, value in rounded.items()
        )
    sizes = [sum(path.stat().st_size for path in folder.glob("*.safetensors")) for folder in (whole, half)]
    assert sizes[1] < 0.6 * sizes[0]
    assert Predictor(tmp_path / "half", device="cpu").loaded.step == 2


def test_the_same_export_goes_on_after_a_full_disk(run, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("safetensors.torch.save_file", full)
        with pytest.raises(RandsceneError, match="the disk is full; free some space, then run the same command again"):
            export_weights(run, tmp_path / "weights")
    assert read_state(export_weights(run, tmp_path / "weights")).step == 2


def test_a_checkpoint_is_found_from_inside_its_run(run, tmp_path, monkeypatch):
    checkpoint = latest_checkpoint(run)
    monkeypatch.chdir(checkpoint.parent)
    assert export_weights(Path(checkpoint.name), tmp_path / "weights").name == checkpoint.name


def test_training_cannot_go_on_in_an_export_and_a_full_folder_is_refused(run, dataset, tmp_path):
    export_weights(run, tmp_path / "weights")
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        train([dataset], with_overrides(TINY, ["optimiser.steps=3"]), tmp_path / "weights", device="cpu")
    with pytest.raises(CheckpointError, match="is not empty"):
        export_weights(run, tmp_path / "weights")
    with pytest.raises(CheckpointError, match="is not a training run"):
        export_weights(tmp_path / "gone", tmp_path / "other")
    with pytest.raises(CheckpointError, match="give its run to choose the best"):
        export_weights(latest_checkpoint(run), tmp_path / "other", best=True)
    assert not (tmp_path / "other").exists()
