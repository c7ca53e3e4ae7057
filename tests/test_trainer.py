"""The training loop: it learns, resumes exactly, refuses what does not fit, and never loses a good checkpoint."""

import dataclasses
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import shard_fixtures
import torch
from PIL import Image
from shard_fixtures import make_dataset, make_sample
from tiny_model import TINY_MODEL

from randscene.errors import CheckpointError, DatasetError, RandsceneError, SpecError
from randscene.shards import open_dataset
from randscene.train import process_group, training_data
from randscene.train import trainer as trainer_module
from randscene.train.batch import LatentSource, build_batch
from randscene.train.checkpoint import best_checkpoint, latest_checkpoint, list_checkpoints, read_state, read_tensors
from randscene.train.conditioned_flow import ConditionedFlow, load_conditioned_flow
from randscene.train.devices import choose_device
from randscene.train.run_log import RunLog, read_metrics, read_validation
from randscene.train.settings import OptimiserSettings, load_settings, with_overrides
from randscene.train.structure_encoder import encode_voxels, load_encoder
from randscene.train.trainer import learning_rate, train
from randscene.train.validation import Validation

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = with_overrides(
    load_settings("mini"),
    [
        "data.encoder=synthetic",
        "data.scenes_per_step=2",
        "data.instances_per_scene=2",
        *TINY_MODEL,
        "model.num_blocks=2",
        "model.sca_blocks=[1]",
        "conditioner.num_blocks=1",
        "optimiser.t_mean=1.0",
        "checkpoint_every=2",
    ],
)


def tiny(*overrides):
    return with_overrides(TINY, list(overrides))


SCRIPT = """
import sys
from randscene.train.settings import parse_settings
from randscene.train.trainer import train
from randscene.errors import RandsceneError
import json, os, pathlib, signal, torch
torch.set_num_threads(1)
run = pathlib.Path(sys.argv[2])
dies = len(sys.argv) > 4 and os.environ["RANK"] == sys.argv[4]
if dies:
    from randscene.train import trainer
    learnt = trainer._Trainer._update
    def update(self, *args):
        if self.step == int(sys.argv[5]):
            os.kill(os.getpid(), signal.SIGKILL)
        return learnt(self, *args)
    trainer._Trainer._update = update
try:
    train([sys.argv[1]], parse_settings(json.loads(sys.argv[3]), where="test"), run, device="cpu")
except RandsceneError as error:
    print(f"RANK {os.environ['RANK']}: {error}", flush=True)
    sys.exit(3)
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "set", scenes=3, views=2, resolution=32, latents=True)


def weights(run):
    checkpoint = latest_checkpoint(run)
    return {
        f"{name}/{key}": value
        for name in read_state(checkpoint).files
        for key, value in read_tensors(checkpoint, name).items()
    }


def test_twenty_steps_equal_a_run_that_was_killed_half_way_and_went_on_bit_for_bit(dataset, tmp_path):
    settings = tiny("optimiser.steps=20", "checkpoint_every=5")
    straight = train([dataset], settings, tmp_path / "straight")
    command = [sys.executable, "-c", SCRIPT, str(dataset), str(tmp_path / "cut"), json.dumps(settings.to_dict())]
    killed = subprocess.run([*command, "0", "13"], env={**os.environ, "RANK": "0"}, timeout=200)
    assert killed.returncode == -signal.SIGKILL
    assert latest_checkpoint(tmp_path / "cut").name == "step_0000010"
    second = train([dataset], settings, tmp_path / "cut")
    assert (second.step, second.steps_made) == (20, 10)
    assert second.loss == straight.loss
    expected, resumed = weights(tmp_path / "straight"), weights(tmp_path / "cut")
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    assert (straight.checkpoint / "state.json").read_bytes() == (second.checkpoint / "state.json").read_bytes()
    logged = [[line["loss"] for line in read_metrics(tmp_path / run)] for run in ("straight", "cut")]
    assert logged[0] == logged[1] and len(logged[0]) == 20


def test_loader_workers_change_nothing(dataset, tmp_path):
    train([dataset], tiny("optimiser.steps=2"), tmp_path / "none")
    train([dataset], tiny("optimiser.steps=2", "data.loader_workers=2"), tmp_path / "two")
    expected, other = weights(tmp_path / "none"), weights(tmp_path / "two")
    assert all(torch.equal(expected[name], other[name]) for name in expected)


def test_the_mini_preset_soon_beats_a_trivial_predictor(tmp_path, monkeypatch):
    encoder = load_encoder("mini")
    latents = []

    def encoded(*args, **kwargs):
        view = make_sample(*args, **kwargs)
        grids = [view.scene_coords(), *(view.instance_coords(i) for i in range(1, view.n_instances + 1))]
        latents.append(encode_voxels(encoder, grids))
        meta = {**view.meta, "encoder": {"name": "mini", "sha256": encoder.sha256}}
        return dataclasses.replace(view, latents=latents[-1], meta=meta)

    monkeypatch.setattr(shard_fixtures, "make_sample", encoded)
    data = make_dataset(tmp_path / "one", scenes=1, views=1, resolution=64, objects=(2, 2))
    settings = with_overrides(
        load_settings("mini"),
        ["data.scenes_per_step=1", "data.instances_per_scene=1", "optimiser.steps=60", "checkpoint_every=1000"],
    )
    train([data], settings, tmp_path / "run")
    losses = [line["loss"] for line in read_metrics(tmp_path / "run")]
    scene, instances = latents[0][0].astype(float), latents[0][1:].astype(float)
    # Zero velocity, where an untrained model starts, costs the noise's variance and the latents' mean square.
    trivial = 2 + np.square(scene).mean() + np.square(instances).mean()
    assert np.mean(losses[:3]) == pytest.approx(trivial, rel=0.1)
    assert np.mean(losses[-15:]) < 0.85 * trivial


def test_a_finished_run_is_left_as_it_is(dataset, tmp_path):
    done = train([dataset], tiny("optimiser.steps=2"), tmp_path / "run")
    again = train([dataset], tiny("optimiser.steps=2"), tmp_path / "run")
    assert (again.step, again.steps_made, again.loss, again.checkpoint) == (2, 0, None, done.checkpoint)


def test_the_metrics_tell_every_step_and_only_once_after_a_death(dataset, tmp_path):
    train([dataset], tiny("optimiser.steps=2"), tmp_path / "run")
    path = tmp_path / "run" / "metrics.jsonl"
    last = json.loads(path.read_text().splitlines()[-1])
    assert {"step", "loss", "loss_scene", "loss_instance", "grad_norm", "samples_per_s", "data_wait_s"} <= last.keys()
    assert last["loss"] == pytest.approx(last["loss_scene"] + last["loss_instance"])
    with open(path, "a") as handle:  # a step that was logged, but died before its checkpoint; and half a line
        handle.write(json.dumps({**last, "step": 3, "loss": 9.0}) + "\n" + '{"step": 4, "lo')
    train([dataset], tiny("optimiser.steps=4"), tmp_path / "run")
    assert [line["step"] for line in read_metrics(tmp_path / "run")] == [1, 2, 3, 4]
    for damage in (b"nonsense\n", b"[]\n", b"\xff\n"):
        path.write_bytes(damage)
        with pytest.raises(CheckpointError, match=r"metrics\.jsonl is damaged"):
            RunLog(tmp_path / "run", 4)


def test_a_loss_that_is_not_finite_stops_with_the_samples_named_and_keeps_the_last_good_checkpoint(
    dataset, tmp_path, monkeypatch
):
    train([dataset], tiny("optimiser.steps=2"), tmp_path / "run")
    good = weights(tmp_path / "run")
    real = training_data.build_batch

    def poisoned(*args, **kwargs):
        batch = real(*args, **kwargs)
        return dataclasses.replace(batch, scene_latents=batch.scene_latents * float("nan"))

    monkeypatch.setattr(training_data, "build_batch", poisoned)
    with pytest.raises(
        RandsceneError, match=r"the loss is not finite at step 3 \(samples 0.*last good checkpoint is .*step_0000002"
    ):
        train([dataset], tiny("optimiser.steps=4"), tmp_path / "run")
    kept = weights(tmp_path / "run")
    assert all(torch.equal(good[name], kept[name]) for name in good)
    assert all(bool(value.isfinite().all()) for value in kept.values())


def test_an_infinite_gradient_of_a_sound_loss_is_told_apart_for_it_may_be_a_kernels_fault(
    dataset, tmp_path, monkeypatch
):
    real = torch.nn.utils.clip_grad_norm_

    def overflowing(parameters, limit):
        parameters[0].grad[0] = float("inf")
        return real(parameters, limit)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", overflowing)
    with pytest.raises(RandsceneError, match=r"the gradient is not finite at step 1 .*hardware\.attention=math"):
        train([dataset], tiny("optimiser.steps=2"), tmp_path / "run")


def test_a_validation_loss_that_is_not_finite_stops_and_nothing_is_saved(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer_module, "open_validation", lambda data, settings: open_dataset(data[0], split="train"))
    monkeypatch.setattr(Validation, "sums", lambda *_, **__: torch.full((40,), float("nan"), dtype=torch.float64))
    with pytest.raises(RandsceneError, match=r"the validation loss is not finite at step 2 .*no checkpoint yet"):
        train([dataset], tiny("optimiser.steps=2", "validation.groups=1"), tmp_path / "run")
    assert not list_checkpoints(tmp_path / "run") and not read_validation(tmp_path / "run")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_signal_finishes_the_step_saves_and_leaves_the_handlers_as_they_were(dataset, tmp_path, number, workers):
    before = signal.getsignal(number)

    def interrupt(metrics):
        if metrics.step == 3:  # a terminal's Ctrl-C reaches every process of the group
            for process in (os.getpid(), *(child.pid for child in multiprocessing.active_children())):
                os.kill(process, number)
                os.kill(process, number)  # and may be passed on by what started it, too

    settings = tiny("optimiser.steps=9", "checkpoint_every=100", f"data.loader_workers={workers}")
    report = train([dataset], settings, tmp_path / "run", progress=interrupt)
    assert report.interrupted and 3 <= report.step < 9
    assert signal.getsignal(number) is before
    assert latest_checkpoint(tmp_path / "run") == report.checkpoint
    rest = train([dataset], tiny("optimiser.steps=9", "checkpoint_every=100"), tmp_path / "run")
    assert (rest.step, rest.interrupted) == (9, False)


def test_a_loader_processes_error_is_its_own_line_and_leaves_no_process_that_would_keep_the_trainer(tmp_path):
    data = make_dataset(tmp_path / "set", scenes=2, views=1, resolution=32, latents=True)
    tar = next((data / "shards").glob("*.tar"))
    content = bytearray(tar.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(byte ^ 0x5A for byte in content[middle : middle + 3000])
    tar.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        train([data], tiny("data.loader_workers=1"), tmp_path / "run")
    assert re.fullmatch(r"train-000000\.tar: .+", str(caught.value))
    assert not multiprocessing.active_children()


def test_a_loader_process_that_is_killed_is_one_line_and_the_run_goes_on(dataset, tmp_path):
    def kill(metrics):
        if metrics.step == 3:
            for process in multiprocessing.active_children():
                os.kill(process.pid, signal.SIGKILL)

    settings = tiny("data.loader_workers=1", "optimiser.steps=60")
    with pytest.raises(RandsceneError, match=r"a loader process has died .*lower data\.loader_workers"):
        train([dataset], settings, tmp_path / "run", progress=kill)
    assert not multiprocessing.active_children()
    last = read_state(latest_checkpoint(tmp_path / "run")).step
    assert train([dataset], tiny(f"optimiser.steps={last + 1}"), tmp_path / "run").steps_made == 1


def test_signals_that_keep_coming_interrupt_two_seconds_after_the_first(monkeypatch):
    clock = iter([0.0, 0.1, 1.5, 2.5])
    monkeypatch.setattr(process_group, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    stop = process_group.StopRequest()
    for _ in range(3):
        stop._note(signal.SIGINT, None)
    assert stop
    with pytest.raises(KeyboardInterrupt):
        stop._note(signal.SIGINT, None)


def test_a_device_that_is_not_there_is_one_line(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name, message in (
        ("cuda", "no CUDA device"),
        ("cuda:1", "no CUDA device"),
        ("gpu", "no CUDA device"),
        ("foo", "no such kind"),
        ("meta", "choose cpu or cuda"),
    ):
        with pytest.raises(SpecError, match=f"device {name}: .*{message}"):
            train([dataset], tiny(), tmp_path / "run", device=name)
    assert not (tmp_path / "run").exists()


def test_gpu_is_a_word_for_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("gpu") == torch.device("cuda") and choose_device("gpu:1") == torch.device("cuda:1")
    with pytest.raises(SpecError, match="device gpu:2: this machine has 2 CUDA devices"):
        choose_device("gpu:2")


def test_another_runs_folder_other_data_and_a_missing_dataset_are_refused_and_nothing_is_written(dataset, tmp_path):
    train([dataset], tiny("optimiser.steps=1"), tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"run of other settings \(optimiser\.lr\)"):
        train([dataset], tiny("optimiser.steps=2", "optimiser.lr=0.5"), tmp_path / "run")
    other = make_dataset(tmp_path / "other", scenes=1, views=1, resolution=32, latents=True, fingerprint="beef" * 16)
    with pytest.raises(CheckpointError, match=r"trained on other data \(datasets\)"):
        train([other], tiny("optimiser.steps=2"), tmp_path / "run")
    assert [path.name for path in list_checkpoints(tmp_path / "run")] == ["step_0000001"]
    with pytest.raises(DatasetError, match=r"no dataset\.json"):
        train([tmp_path / "none"], TINY, tmp_path / "new")
    with pytest.raises(DatasetError, match="given twice"):
        train([dataset, dataset], TINY, tmp_path / "new")
    with pytest.raises(DatasetError, match=r"is in frame yaw .* but the run is in full"):
        train([dataset], tiny("data.frame=full"), tmp_path / "new")
    with pytest.raises(DatasetError, match=r"data\.mixture names a, b but the datasets are synthetic"):
        train([dataset], tiny("data.mixture={a: 1, b: 1}"), tmp_path / "new")
    with pytest.raises(DatasetError, match="first:0"):
        train([dataset], tiny("data.scenes=first:0"), tmp_path / "new")
    with pytest.raises(SpecError, match=r"groups_at_once: 2 does not divide the 3 groups that a process takes"):
        train([dataset], tiny("data.scenes_per_step=3", "hardware.groups_at_once=2"), tmp_path / "new")
    with pytest.raises(SpecError, match=r"validation\.split: no dataset has views of a split called val"):
        train([dataset], tiny("validation.groups=2"), tmp_path / "new")
    with pytest.raises(CheckpointError, match="nowhere"):
        train([dataset], tiny("init=nowhere.pt"), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_two_trainers_in_one_folder_are_refused(dataset, tmp_path):
    told = []

    def second(metrics):
        with pytest.raises(RandsceneError, match="another process trains in"):
            train([dataset], tiny("optimiser.steps=3"), tmp_path / "run")
        told.append(metrics.step)

    assert train([dataset], tiny("optimiser.steps=2"), tmp_path / "run", progress=second).step == 2
    assert told == [1, 2]


def test_two_datasets_are_drawn_from_by_their_numbers_of_samples(dataset, tmp_path):
    other = make_dataset(tmp_path / "other", scenes=1, views=2, resolution=32, latents=True, fingerprint="beef" * 16)
    report = train([dataset, other], tiny("optimiser.steps=2"), tmp_path / "run")
    facts = read_state(report.checkpoint).data["datasets"]
    assert {name: fact["samples"] for name, fact in facts.items()} == {
        "synthetic": len(open_dataset(dataset)),
        "synthetic-2": len(open_dataset(other)),
    }


def test_the_rate_warms_up_and_follows_its_schedule():
    constant = OptimiserSettings(lr=1.0, warmup_steps=10)
    assert learning_rate(constant, 0) == pytest.approx(0.1)
    assert learning_rate(constant, 9) == learning_rate(constant, 10**6) == 1.0
    cosine = dataclasses.replace(constant, schedule="cosine", steps=100, warmup_steps=0)
    rates = [learning_rate(cosine, step) for step in range(101)]
    assert rates[0] == 1.0 and rates[100] == pytest.approx(0.1) and rates == sorted(rates, reverse=True)


def test_the_image_encoder_has_a_rate_of_its_own(dataset, tmp_path):
    still = train(
        [dataset], tiny("optimiser.steps=2", "optimiser.conditioner_lr_scale=0", "checkpoint_every=1"), tmp_path / "0"
    )
    first, last = list_checkpoints(tmp_path / "0")
    assert still.checkpoint == last
    moved = {
        name: [
            not torch.equal(value, read_tensors(last, name)[key]) for key, value in read_tensors(first, name).items()
        ]
        for name in ("conditioner", "model")
    }
    assert any(moved["model"]) and not any(moved["conditioner"])
    # At half the rate AdamW's first step is half as long, whatever the gradient.
    lengths = []
    for scale in (1, 0.5):
        settings = tiny("optimiser.steps=1", f"optimiser.conditioner_lr_scale={scale}")
        report = train([dataset], settings, tmp_path / f"run{scale}")
        start = ConditionedFlow(settings).conditioner.state_dict()
        after = read_tensors(report.checkpoint, "conditioner")
        lengths.append(max(float((after[key] - value).abs().max()) for key, value in start.items()))
    assert lengths[1] == pytest.approx(lengths[0] / 2, rel=1e-3)


def under_torchrun(tmp_path, dataset, run, settings, *more):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    return subprocess.run(
        [*command, str(dataset), str(run), json.dumps(settings.to_dict()), *more],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=Path(__file__).parents[1],
    )


def test_two_ranks_go_on_with_the_run_of_one_as_that_one_would(dataset, tmp_path):
    train([dataset], tiny("optimiser.steps=1"), tmp_path / "two")
    settings = tiny("optimiser.steps=3")
    done = under_torchrun(tmp_path, dataset, tmp_path / "two", settings)
    assert done.returncode == 0, done.stderr[-2000:]
    train([dataset], settings, tmp_path / "one")
    losses = [[line["loss"] for line in read_metrics(tmp_path / run)] for run in ("one", "two")]
    assert losses[0][0] == losses[1][0]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert one.keys() == two.keys()
    assert max(float((one[name] - two[name]).abs().max()) for name in one if name.startswith("model/")) < 1e-4


def test_a_rank_that_is_killed_ends_the_others_with_one_line_and_the_run_goes_on_from_its_checkpoint(dataset, tmp_path):
    settings = tiny("optimiser.steps=5")
    done = under_torchrun(tmp_path, dataset, tmp_path / "run", settings, "1", "3")
    assert done.returncode != 0
    assert "RANK 0: another process of this run ended or cannot be reached" in done.stdout, done.stderr[-2000:]
    assert [path.name for path in list_checkpoints(tmp_path / "run")] == ["step_0000002"]
    assert train([dataset], settings, tmp_path / "run").step == 5


def test_a_step_in_micro_batches_is_the_step_of_the_whole(dataset, tmp_path):
    whole = tiny("optimiser.steps=3", "data.scenes_per_step=4")
    train([dataset], whole, tmp_path / "whole")
    train([dataset], with_overrides(whole, ["hardware.groups_at_once=1"]), tmp_path / "parts")
    losses = [[line["loss"] for line in read_metrics(tmp_path / run)] for run in ("whole", "parts")]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert max(float((one[name] - two[name]).abs().max()) for name in one if name.startswith("model/")) < 1e-4


def test_voxels_are_encoded_as_latents_stored_with_the_samples_would_be(tmp_path):
    bare = make_dataset(tmp_path / "bare", scenes=2, views=1, resolution=32, latents=False)
    settings = tiny("optimiser.steps=2", "data.encoder=mini", "data.loader_workers=1")
    train([bare], settings, tmp_path / "run")
    source = LatentSource(settings)
    views = [open_dataset(bare)[i] for i in range(2)]
    deferred = build_batch(views, settings, source, positions=[0, 1], encode=False)
    assert len(deferred.grids) == 6 and not deferred.scene_latents.any()
    now = source.encode(deferred)
    for group, view in enumerate(views):
        chosen = now.instances[2 * group : 2 * group + 2].numpy()
        expected = source.latents(view, chosen)
        np.testing.assert_allclose(now.scene_latents[group], expected[0], atol=2e-3)
        np.testing.assert_allclose(now.instance_latents[2 * group : 2 * group + 2], expected[1:], atol=2e-3)


def test_shares_of_a_mixture_and_a_subset_of_scenes_decide_what_is_read(dataset, tmp_path):
    other = make_dataset(tmp_path / "other", scenes=2, views=2, resolution=32, latents=True, fingerprint="beef" * 16)
    shares = tiny("data.mixture={synthetic: 3, synthetic-2: 1}", "data.scenes=first:1")
    mixture = training_data.open_mixture([dataset, other], shares)
    drawn = [mixture.locate(position) for position in range(400)]
    assert sum(name == "synthetic" for name, _ in drawn) == pytest.approx(300, abs=30)
    for name in mixture.names:
        assert {mixture.datasets[name][i].meta["scene"] for i in range(len(mixture.datasets[name]))} == {0}


def test_the_best_checkpoint_by_held_out_loss_is_kept_beside_the_last(dataset, tmp_path):
    watched = ["validation.split=train", "validation.groups=3", "checkpoint_every=1", "keep_checkpoints=1"]
    settings = tiny("optimiser.steps=4", "optimiser.lr=0.5", *watched)  # so high a rate only makes it worse
    report = train([dataset], settings, tmp_path / "run")
    told = {line["step"]: line["loss"] for line in read_validation(tmp_path / "run")}
    assert list(told) == [1, 2, 3, 4]
    best = best_checkpoint(tmp_path / "run")
    assert read_state(best).validation == min(told.values()) == told[read_state(best).step]
    assert {path.name for path in list_checkpoints(tmp_path / "run")} == {best.name, report.checkpoint.name}
    with pytest.raises(CheckpointError, match="no checkpoint with a validation loss"):
        train([dataset], tiny("optimiser.steps=1"), tmp_path / "blind")
        best_checkpoint(tmp_path / "blind")


def test_pictures_of_what_the_model_generates_come_with_every_checkpoint(tmp_path):
    bare = make_dataset(tmp_path / "bare", scenes=2, views=1, resolution=32, latents=False)
    watched = ["validation.split=train", "validation.groups=1", "validation.pictures=1", "data.encoder=mini"]
    train([bare], tiny("optimiser.steps=2", "sampling.steps=2", *watched), tmp_path / "run")
    [picture] = (tmp_path / "run" / "pictures").iterdir()
    assert picture.name == "step_0000002.png"
    pixels = np.asarray(Image.open(picture))
    assert pixels.shape[1] > 3 * pixels.shape[0] / 2 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


def test_first_weights_come_from_another_run_once_and_are_on_record(dataset, tmp_path):
    first = train([dataset], tiny("optimiser.steps=2"), tmp_path / "first")
    settings = tiny("optimiser.steps=1", "optimiser.lr=1e-12", f"init={tmp_path / 'first'}", "seed=5")
    begun = train([dataset], settings, tmp_path / "second")
    source = read_tensors(first.checkpoint, "model_ema")
    taken = read_tensors(begun.checkpoint, "model")
    assert all(torch.allclose(taken[name], source[name], atol=1e-9) for name in source)
    source = read_tensors(first.checkpoint, "conditioner_ema")
    taken = read_tensors(begun.checkpoint, "conditioner")
    assert all(torch.allclose(taken[name], source[name], atol=1e-9) for name in source)
    assert read_state(begun.checkpoint).data["init"] == read_state(first.checkpoint).files["model_ema"]
    shutil.rmtree(tmp_path / "first")
    assert train([dataset], with_overrides(settings, ["optimiser.steps=2"]), tmp_path / "second").step == 2


def test_a_frozen_image_encoder_is_neither_trained_nor_stored(dataset, tmp_path):
    frozen = ["conditioner.kind=dinov2", "conditioner.source=random", "conditioner.patch_size=8"]
    settings = tiny("optimiser.steps=2", *frozen)
    report = train([dataset], settings, tmp_path / "run")
    assert read_state(report.checkpoint).files.keys() == {"model", "model_ema", "optimiser"}
    again = train([dataset], with_overrides(settings, ["optimiser.steps=3"]), tmp_path / "run")
    fresh, trained = ConditionedFlow(settings), load_conditioned_flow(again.checkpoint)
    for name, value in fresh.conditioner.state_dict().items():
        assert torch.equal(trained.conditioner.state_dict()[name], value)
    assert trained.conditioner.frozen and not any(p.requires_grad for p in fresh.conditioner.parameters())


def test_a_file_in_the_place_of_the_boards_folder_is_told_in_one_line(dataset, tmp_path):
    run = tmp_path / "run"
    train([dataset], tiny("optimiser.steps=1"), run)
    shutil.rmtree(run / "tensorboard")
    (run / "tensorboard").write_text("mine")
    with pytest.raises(CheckpointError, match="tensorboard is a file"):
        train([dataset], tiny("optimiser.steps=2"), run)
    assert (run / "tensorboard").read_text() == "mine"


def test_a_full_gpu_is_told_in_one_line_with_what_to_do(dataset, tmp_path, monkeypatch):
    def full(*args):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    train([dataset], tiny("optimiser.steps=2"), tmp_path / "run")
    monkeypatch.setattr(trainer_module._Trainer, "_losses", full)
    with pytest.raises(RandsceneError, match=r"hardware\.groups_at_once below 2.*goes on from .*step_0000002") as told:
        train([dataset], tiny("optimiser.steps=3"), tmp_path / "run")
    assert "\n" not in str(told.value)
