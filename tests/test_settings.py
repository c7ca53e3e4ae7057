"""Training settings: strict reading, the paper's values, what identifies a run."""

import pytest
import yaml

from randscene.errors import SpecError
from randscene.train.settings import PRESETS, RunSettings, load_settings, parse_settings, preset_names, with_overrides


def test_presets_are_valid_and_survive_a_round_trip():
    assert preset_names() == ["iscene", "mini", "mix-3dfront-rand15k", "small"]
    for name in preset_names():
        settings = load_settings(name)
        assert settings.name == name
        assert parse_settings(settings.to_dict(), where="again") == settings


def test_iscene_spells_out_the_papers_values_which_are_also_the_defaults():
    settings = load_settings("iscene")
    assert (settings.optimiser.lr, settings.optimiser.steps, settings.data.scenes_per_step) == (5e-5, 130_000, 8 * 8)
    assert (settings.sampling.steps, settings.sampling.cfg_strength) == (25, 3.0)
    assert settings.model.sca_blocks == (10, 11, 12, 13, 14)
    beside = {name: getattr(settings, name) for name in ("init", "validation", "hardware")}
    assert settings == RunSettings(name="iscene", **beside)
    assert settings.init == settings.data.encoder == "microsoft/TRELLIS-image-large"


def test_the_mixture_differs_from_iscene_in_its_shares_alone():
    mixed, plain = load_settings("mix-3dfront-rand15k").to_dict(), load_settings("iscene").to_dict()
    assert mixed["data"].pop("mixture") == {"rand-15k": 0.5, "3d-front": 0.5}
    del mixed["name"], plain["name"], plain["data"]["mixture"]
    assert mixed == plain


def test_how_a_run_is_watched_and_fitted_to_a_machine_is_no_part_of_its_identity():
    settings = load_settings("mini")
    other = [
        "hardware.compile=never",
        "hardware.groups_at_once=1",
        "validation.groups=3",
        "data.loader_workers=2",
        "init=other",
    ]
    assert with_overrides(settings, other).digest() == settings.digest()
    for change in ("data.mixture={a: 1}", "data.scenes=first:9", "data.scenes_per_step=3"):
        assert with_overrides(settings, [change]).digest() != settings.digest()


def test_a_text_can_be_cleared():
    assert with_overrides(load_settings("iscene"), ["init="]).init == ""


def test_a_mixture_is_set_as_a_whole():
    settings = with_overrides(load_settings("mini"), ["data.mixture={rand-15k: 0.5, 3d-front: 1}"])
    assert settings.data.mixture == {"rand-15k": 0.5, "3d-front": 1.0}
    assert parse_settings(settings.to_dict(), where="again") == settings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "x: colour: unknown setting; known are name, seed"),
        ({"model": {"blocks": 3}}, "x: model.blocks: unknown setting"),
        ({"model": None}, "x: model: expected a mapping of settings, not nothing"),
        ({"seed": "one"}, "x: seed: expected a whole number, not 'one'"),
        ({"seed": True}, "x: seed: expected a whole number, not True"),
        ({"seed": -1}, "x: seed: must not be negative"),
        ({"deterministic": 1}, "x: deterministic: expected true or false, not 1"),
        ({"optimiser": {"lr": float("nan")}}, "x: optimiser.lr: expected a finite number"),
        ({"optimiser": {"betas": [0.9]}}, "x: optimiser.betas: expected a list of 2, not a list of 1"),
        ({"optimiser": {"schedule": "sine"}}, "x: optimiser.schedule: expected one of constant, cosine, not 'sine'"),
        ({"data": {"mixture": {"a": 0}}}, "x: data.mixture.a: must be positive"),
        ({"data": {"mixture": {"a": "much"}}}, "x: data.mixture.a: expected a finite number, not 'much'"),
        ({"data": {"mixture": ["a"]}}, "x: data.mixture: expected a mapping, not a list of 1"),
        ({"validation": {"pictures": 2}}, "x: validation.pictures: need groups"),
        ({"hardware": {"attention": "slow"}}, "x: hardware.attention: expected one of auto, default"),
        ({"model": {"sca_blocks": [24]}}, "x: model.sca_blocks: must name blocks 0 to 23"),
        ({"model": {"sca_blocks": [1.5]}}, "x: model.sca_blocks: expected a whole number, not 1.5"),
        ({"model": {"cond_channels": 64}}, "x: conditioner.channels: must equal model.cond_channels"),
        ({"model": {"in_channels": 4}}, "x: model.in_channels: must be 8: latents are 8 channels of 16 x 16 x 16"),
        ({"conditioner": {"channels": 0}}, "x: conditioner.channels: must be at least 1"),
        ({"sampling": {"cfg_interval": [0.9, 0.1]}}, "x: sampling.cfg_interval: must be two rising numbers"),
        ({"name": None}, "x: name: expected text, not nothing"),
    ],
)
def test_a_bad_field_is_refused_with_its_name(change, message):
    with pytest.raises(SpecError) as caught:
        parse_settings({"name": "bad", **change}, where="x")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_missing_name_is_named():
    with pytest.raises(SpecError, match="x: name: missing"):
        parse_settings({}, where="x")


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(SpecError, match="no preset or settings file called maxi: presets are iscene, mini"):
        load_settings("maxi")


@pytest.mark.parametrize(
    ("wrong", "meant"), [("optimizer.lr=1", "; did you mean optimiser.lr?"), ("sed=1", "; did you mean seed?")]
)
def test_a_mistyped_setting_is_told_what_may_have_been_meant(wrong, meant):
    with pytest.raises(SpecError) as caught:
        with_overrides(load_settings("mini"), [wrong])
    assert str(caught.value).endswith(meant)
    with pytest.raises(SpecError, match=r"mix-3dfront-rand15k, small; did you mean iscene\?"):
        load_settings("icsene")
    with pytest.raises(SpecError, match=r"no setting called xyzzy\.lr$"):
        with_overrides(load_settings("mini"), ["xyzzy.lr=1"])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"optimizer": {"lr": 1e-4}}, r"x: optimizer: unknown setting; known are .*; did you mean optimiser\?$"),
        ({"optimiser": {"warmup_step": 3}}, r"x: optimiser\.warmup_step: .*; did you mean warmup_steps\?$"),
        ({"optimiser": {"xyzzy": 3}}, r"x: optimiser\.xyzzy: unknown setting; known are [a-z_, ]+$"),
        ({3: 3}, r"x: 3: unknown setting; known are [a-z_, ]+$"),
    ],
)
def test_an_unknown_field_of_a_file_is_told_what_may_have_been_meant(data, said):
    with pytest.raises(SpecError, match=said):
        parse_settings({"name": "x", **data}, where="x")


def test_a_settings_file_may_be_given_by_path(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({**load_settings("mini").to_dict(), "name": "own", "optimiser": {"lr": "2e-4"}}))
    assert load_settings(path).optimiser.lr == 2e-4
    path.write_text("name: [")
    with pytest.raises(SpecError, match="not readable as YAML"):
        load_settings(path)
    assert (PRESETS / "mini.yaml").is_file()


def test_overrides_replace_single_fields_and_refuse_unknown_ones():
    settings = with_overrides(load_settings("mini"), ["optimiser.lr=1e-4", "model.sca_blocks=[0, 3]", "seed=3"])
    assert (settings.optimiser.lr, settings.model.sca_blocks, settings.seed) == (1e-4, (0, 3), 3)
    for wrong in ("optimiser.rate=1", "optimiser=1", "seed", "seed.deep=1", "seed=[", "seed=x"):
        with pytest.raises(SpecError):
            with_overrides(settings, [wrong])


def test_the_digest_ignores_how_a_run_is_saved_and_sampled_but_nothing_that_changes_its_weights():
    settings = load_settings("iscene")
    for same in ("checkpoint_every=7", "sampling.steps=3", "data.loader_workers=1", "optimiser.steps=5"):
        assert with_overrides(settings, [same]).digest() == settings.digest()
    for other in (
        "seed=1",
        "optimiser.lr=1e-3",
        "data.instances_per_scene=2",
        "model.sca_blocks=[]",
        "data.frame=full",
    ):
        assert with_overrides(settings, [other]).digest() != settings.digest()
    cosine = with_overrides(settings, ["optimiser.schedule=cosine"])
    assert with_overrides(cosine, ["optimiser.steps=5"]).digest() != cosine.digest()
