"""Checkpoints: whole or absent, verified, limited in number, refused where they do not fit."""

import json

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from randscene.errors import CheckpointError, RandsceneError
from randscene.files import unique_token
from randscene.train.checkpoint import (
    checkpoint_sha256,
    latest_checkpoint,
    list_checkpoints,
    load_optimiser,
    load_run_settings,
    open_run,
    optimiser_tensors,
    read_state,
    read_tensors,
    save_checkpoint,
)
from randscene.train.settings import load_settings, with_overrides
from randscene.train.state_dict import load_strict

SETTINGS = load_settings("mini")
DATA = {"frame": "yaw", "encoder": {"name": "mini", "sha256": "0" * 64}}


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def save(run, step, module, settings=SETTINGS, **more):
    return save_checkpoint(run, step=step, settings=settings, data=DATA, tensors={"model": module.state_dict(), **more})


def test_what_was_saved_is_what_is_read(tmp_path):
    open_run(tmp_path / "run", SETTINGS)
    assert load_run_settings(tmp_path / "run") == SETTINGS
    folder = save(tmp_path / "run", 7, net())
    assert latest_checkpoint(tmp_path / "run") == folder
    state = read_state(folder)
    assert (state.step, state.settings_digest, state.data) == (7, SETTINGS.digest(), DATA)
    other = net(seed=1)
    load_strict(other, read_tensors(folder, "model"), "x")
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), net().parameters()))


def test_equal_weights_have_equal_identity(tmp_path):
    first, again, other = (save(tmp_path / str(i), 7, net(seed)) for i, seed in enumerate((0, 0, 1)))
    assert checkpoint_sha256(first) == checkpoint_sha256(again) != checkpoint_sha256(other)


def test_only_the_last_ones_are_kept_and_left_overs_of_a_killed_save_go(tmp_path):
    left_over = tmp_path / "checkpoints" / ".step_0000001.1.tmp"
    left_over.mkdir(parents=True)
    (left_over / "model.safetensors").write_bytes(b"half")
    stranger = tmp_path / "checkpoints" / "notes"
    stranger.mkdir()
    for step in (8, 10, 9, 100):
        save(tmp_path, step, net())
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_0000010", "step_0000100"]
    assert not left_over.exists() and stranger.exists()


def test_a_kill_while_an_old_one_is_dropped_leaves_whole_ones_alone(tmp_path, monkeypatch):
    once = with_overrides(SETTINGS, ["keep_checkpoints=1"])
    save(tmp_path, 1, net(), once)

    def killed(path):
        (path / "state.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("randscene.train.checkpoint.shutil.rmtree", killed)
        save(tmp_path, 2, net(), once)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_0000002"]
    third = save(tmp_path, 3, net(), once)
    assert list(third.parent.iterdir()) == [third]


def test_a_save_that_fails_leaves_the_earlier_checkpoint_and_no_trace(tmp_path, monkeypatch):
    kept = save(tmp_path, 1, net())

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("randscene.train.checkpoint.write_atomic", full)
    with pytest.raises(RandsceneError, match="the disk is full"):
        save(tmp_path, 2, net())
    assert list(kept.parent.iterdir()) == [kept]


def test_a_full_disk_is_told_alike_where_the_tensors_library_meets_it(tmp_path, monkeypatch):
    kept = save(tmp_path, 1, net())

    def full(*_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(RandsceneError, match=r"^cannot write .*step_0000002: the disk is full"):
        save(tmp_path, 2, net())
    assert list(kept.parent.iterdir()) == [kept]


def test_an_older_checkpoint_that_is_damaged_ends_no_run(tmp_path):
    once = with_overrides(SETTINGS, ["keep_checkpoints=2"])
    (save(tmp_path, 1, net(), once) / "state.json").write_text("{")
    newest = save(tmp_path, 2, net(), once)
    assert list_checkpoints(tmp_path)[-1] == newest and read_state(newest).step == 2


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "state", "schema", "escape"])
def test_a_damaged_checkpoint_is_refused_and_named(tmp_path, damage):
    folder = save(tmp_path, 3, net())
    path, state = folder / "model.safetensors", folder / "state.json"
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
        path.write_bytes(data)
    elif damage == "cut":
        path.write_bytes(data[:-4])
    elif damage == "gone":
        path.unlink()
    elif damage == "state":
        state.write_text("{")
    else:
        content = json.loads(state.read_text())
        content |= {"schema": 99} if damage == "schema" else {"files": {"../../model": "0"}}
        state.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="step_0000003"):
        read_tensors(folder, "model")


def test_tensors_that_do_not_fit_name_the_first_that_differs():
    wrong = net().state_dict()
    wrong["0.weight"] = torch.zeros(5, 3)
    wrong["extra"] = wrong.pop("1.bias")
    expected = r"old does not fit Sequential: 1\.bias is missing \(and 2 more\)"
    with pytest.raises(CheckpointError, match=expected):
        load_strict(net(), wrong, "old")


def test_an_optimiser_goes_on_as_if_it_had_not_stopped():
    def step(module, optimiser):
        optimiser.zero_grad()
        module(torch.ones(1, 3)).square().sum().backward()
        optimiser.step()

    module = net()
    optimiser = torch.optim.AdamW(module.parameters(), lr=0.1)
    step(module, optimiser)
    other = net(seed=1)
    load_strict(other, module.state_dict(), "x")
    resumed = torch.optim.AdamW(other.parameters(), lr=0.1)
    load_optimiser(other, resumed, {k: v.clone() for k, v in optimiser_tensors(module, optimiser).items()}, where="x")
    step(module, optimiser)
    step(other, resumed)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters()))
    with pytest.raises(CheckpointError, match=r"no optimiser state that fits 0\.weight"):
        load_optimiser(other, resumed, {}, where="x")


def test_a_folder_of_another_run_or_of_something_else_is_refused_untouched(tmp_path):
    open_run(tmp_path / "run", SETTINGS)
    open_run(tmp_path / "run", with_overrides(SETTINGS, ["checkpoint_every=5"]))
    assert load_run_settings(tmp_path / "run").checkpoint_every == SETTINGS.checkpoint_every
    with pytest.raises(CheckpointError, match=r"run of other settings .*optimiser\.lr"):
        open_run(tmp_path / "run", with_overrides(SETTINGS, ["optimiser.lr=1e-5"]))
    cosine = with_overrides(SETTINGS, ["optimiser.schedule=cosine"])
    open_run(tmp_path / "cosine", cosine)
    with pytest.raises(CheckpointError, match=r"\(optimiser\.steps\): .* --set init=.*cosine begins with its weights"):
        open_run(tmp_path / "cosine", with_overrides(cosine, ["optimiser.steps=77"]))
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="is not a training run"):
        open_run(other, SETTINGS)
    assert [path.name for path in other.iterdir()] == ["thesis.txt"]


def test_a_kill_during_the_very_first_write_does_not_spoil_the_folder(tmp_path):
    (tmp_path / f".settings.json.{unique_token()}.tmp").write_text("{")
    open_run(tmp_path, SETTINGS)
    assert load_run_settings(tmp_path) == SETTINGS


def test_a_folder_without_a_run_or_without_a_checkpoint_says_so(tmp_path):
    with pytest.raises(CheckpointError, match=r"not a training run: it has no settings\.json"):
        latest_checkpoint(tmp_path / "nothing")
    open_run(tmp_path / "run", SETTINGS)
    with pytest.raises(CheckpointError, match="has no checkpoint yet"):
        latest_checkpoint(tmp_path / "run")
    (tmp_path / "run" / "settings.json").write_text('{"name": "mini", "colour": 1}')
    with pytest.raises(CheckpointError, match=r"damaged or of another version: .*colour"):
        latest_checkpoint(tmp_path / "run")
