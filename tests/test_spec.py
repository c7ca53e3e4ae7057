"""Dataset specs: presets load, mistakes are one clear line that names the field, and rand-15k nests in rand-25k."""

import math

import pytest
import yaml

from randscene.errors import SpecError
from randscene.manifests import DatasetSpec, load_spec, parse_spec, preset_names, with_overrides

SMALL = {"name": "small", "splits": {"train": {"first": 0, "scenes": 3}, "val": {"first": 10, "scenes": 2}}}


def test_a_mistyped_field_is_told_what_may_have_been_meant():
    with pytest.raises(SpecError, match=r"no field camera\.views; did you mean cameras\.views\?"):
        with_overrides(load_spec("demo"), ["camera.views=3"])
    with pytest.raises(SpecError, match=r"did you mean rand-15k\?"):
        load_spec("rand-15K")


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (
            {"layout": {"table_probabilty": 1}},
            "layout.table_probabilty: .*no such field; did you mean layout.table_prob",
        ),
        ({"splits": {"train": {"frist": 0}}}, "splits.train.frist: .*did you mean splits.train.first?"),
        ({"splits": {"No good": {"frist": 0}}}, "splits.No good.frist: .*did you mean splits.No good.first?"),
        ({"split": {}, "splits": ...}, "split: .*did you mean splits?"),
        ({"xyzzy": 1}, "xyzzy: a dataset spec has no such field$"),
        ({"layout": {"objects": 3}}, r"layout.objects: two numbers, \[least, most\], not 3$"),
        ({"layout": {"objects": [3]}}, r"layout.objects: two numbers, \[least, most\], not \[3\]$"),
        ({"ground": {"albedo": [0, 0.5, 1]}}, r"ground.albedo: two numbers, \[least, most\], not \[0, 0.5, 1\]$"),
        ({"scene_glb": "val"}, "scene_glb: a list of splits' names, not 'val'$"),
        ({"layout": None}, "layout: a mapping of fields, not nothing$"),
        ({"splits": ...}, "splits: missing$"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_what_belongs_there(wrong, line):
    data = {name: value for name, value in {**SMALL, **wrong}.items() if value is not ...}
    with pytest.raises(SpecError, match=f"^mine.yaml: {line}"):
        parse_spec(data, where="mine.yaml")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: small\n seed: 1\n", "line 2, column 6: mapping values are not allowed here"),
        ("name: small\nsplits: [1\n", "line 3, column 1: .* while parsing a flow sequence of line 2"),
    ],
)
def test_broken_yaml_is_told_by_its_line(tmp_path, text, line):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=f"mine.yaml: not readable as YAML: {line}"):
        load_spec(path)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_under_its_own_name(name):
    assert load_spec(name).name == name


def test_the_presets_are_there():
    assert {"demo", "rand-15k", "rand-25k"} <= set(preset_names())


def test_rand_15k_nests_in_rand_25k():
    small, large = load_spec("rand-15k"), load_spec("rand-25k")
    assert small.splits["train"].scenes == 15_000
    assert large.splits["train"].scenes == 25_000
    assert large.with_scenes(15_000).model_copy(update={"name": small.name}) == small
    assert set(small.indices()) < set(large.indices())
    assert all(small.split_of(scene) == large.split_of(scene) for scene in (0, 14_999, 900_000, 900_199))


def test_the_paper_s_numbers_are_in_the_presets():
    spec = load_spec("rand-25k")
    assert spec.layout.objects == (2, 12)
    assert spec.cameras.views == 150
    assert spec.render.resolution == 512


def test_a_spec_reads_from_a_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    assert load_spec(path) == load_spec(str(path)) == parse_spec(SMALL, where="here")


def test_an_unknown_preset_is_told_which_there_are(tmp_path):
    with pytest.raises(SpecError, match=r"no preset or spec file called rand-99k: presets are .*demo.*rand-15k"):
        load_spec("rand-99k")
    with pytest.raises(SpecError, match="no preset or spec file"):
        load_spec(tmp_path)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"layout": {"object": [2, 12]}}, "layout.object"),
        ({"colour": 1}, "colour"),
        ({"layout": {"objects": [0, 12]}}, "layout.objects"),
        ({"layout": {"objects": [5, 2]}}, "layout.objects"),
        ({"layout": {"scale": [1.5, 0.5]}}, "layout.scale"),
        ({"layout": {"scale": [0, 1]}}, "layout.scale"),
        ({"layout": {"scale": [0.5, math.inf]}}, "layout.scale"),
        ({"frame": {"azimuth_offset_deg": math.nan}}, "frame.azimuth_offset_deg"),
        ({"render": {"view_timeout_s": math.inf}}, "render.view_timeout_s"),
        ({"layout": {"table_probability": 1.5}}, "layout.table_probability"),
        ({"layout": {"pose": "upside-down"}}, "layout.pose"),
        ({"cameras": {"views": 0}}, "cameras.views"),
        ({"cameras": {"fov_deg": 180}}, "cameras.fov_deg"),
        ({"cameras": {"fov_deg": "wide"}}, "cameras.fov_deg"),
        ({"cameras": {"fov_deg": [30]}}, "cameras.fov_deg"),
        ({"cameras": {"fov_deg": [50, 30]}}, "cameras.fov_deg"),
        ({"cameras": {"framing": "loose"}}, "cameras.framing"),
        ({"cameras": {"distance_jitter": [0.9, 1.2]}}, "cameras.distance_jitter"),
        ({"cameras": {"look_at_jitter": 1.5}}, "cameras.look_at_jitter"),
        ({"cameras": {"roll_deg": [5, -5]}}, "cameras.roll_deg"),
        ({"cameras": {"elevation_deg": [45, 5]}}, "cameras.elevation_deg"),
        ({"cameras": {"elevation_deg": [0, 91]}}, "cameras.elevation_deg"),
        ({"cameras": {"azimuth_deg": 181}}, "cameras.azimuth_deg"),
        ({"assets": {"kinds": 0}}, "assets.kinds"),
        ({"splits": {"train": {"first": 0, "scenes": 1, "arrangement": "pile"}}}, "splits.train.arrangement"),
        ({"lights": {"kind": "hdri"}}, "lights.folder"),
        ({"lights": {"folder": "sky"}}, "lights.folder"),
        ({"lights": {"kind": "hdri", "folder": "sky", "strength": [2, 1]}}, "lights.strength"),
        ({"ground": {"kind": "grass"}}, "ground.kind"),
        ({"ground": {"albedo": [0.2, 1.2]}}, "ground.albedo"),
        ({"ground": {"roughness": [0.6, 0.4]}}, "ground.roughness"),
        ({"render": {"resolution": "large"}}, "render.resolution"),
        ({"render": {"engine": "crayon"}}, "render.engine"),
        ({"seed": -1}, "seed"),
        ({"name": "No Spaces"}, "name"),
        ({"splits": {}}, "splits"),
        ({"splits": {"a": {"first": 0, "scenes": 5}, "b": {"first": 4, "scenes": 5}}}, "splits"),
        ({"splits": {"a": {"first": 999_999, "scenes": 2}}}, "splits"),
        ({"splits": {"a": {"first": 0, "scenes": -1}}}, "splits.a.scenes"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_field(change, field):
    with pytest.raises(SpecError) as caught:
        parse_spec({**SMALL, **change}, where="mine.yaml")
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"mine.yaml: {field}")


@pytest.mark.parametrize("text", ["a: [1", "{", "\x00", "- 1\n- 2\n", "", "just words"])
def test_a_file_that_is_no_spec_is_one_line(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert "\n" not in str(caught.value)
    assert "mine.yaml" in str(caught.value)


def test_yaml_tags_build_no_objects(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(SpecError):
        load_spec(path)


def test_a_scene_s_split_follows_from_its_index():
    spec = parse_spec(SMALL, where="here")
    assert [spec.split_of(scene) for scene in (0, 2, 10, 11)] == ["train", "train", "val", "val"]
    assert spec.indices() == [0, 1, 2, 10, 11]
    for scene in (3, 9, 12):
        with pytest.raises(SpecError, match=f"scene {scene} belongs to no split of small"):
            spec.split_of(scene)


def test_with_scenes_changes_the_first_split_only():
    spec = parse_spec({**SMALL, "splits": dict(reversed(SMALL["splits"].items()))}, where="here")
    fewer = spec.with_scenes(1)
    assert fewer.splits["train"].scenes == 1
    assert fewer.splits["val"] == spec.splits["val"]
    with pytest.raises(SpecError, match="splits: train and val share scene indices"):
        spec.with_scenes(11)


def test_overrides_replace_single_fields_and_name_what_is_wrong():
    spec = parse_spec(SMALL, where="here")
    changed = with_overrides(spec, ["cameras.views=24", "layout.gap=[0.1, 0.2]", "latents.encoder=null"])
    assert (changed.cameras.views, changed.layout.gap, changed.latents.encoder) == (24, (0.1, 0.2), None)
    assert spec.cameras.views == 150
    for wrong in (
        "cameras.view=3",
        "cameras.views",
        "cameras.views=[",
        "cameras.views=many",
        "cameras.views.x=1",
        "=1",
    ):
        with pytest.raises(SpecError, match=r"cameras\.view|form"):
            with_overrides(spec, [wrong])


def test_a_field_of_view_is_an_angle_or_a_range():
    assert parse_spec({**SMALL, "cameras": {"fov_deg": 35}}, where="here").cameras.fov_deg == 35.0
    spec = parse_spec({**SMALL, "cameras": {"fov_deg": [30, 50]}}, where="here")
    assert spec.cameras.fov_deg == (30.0, 50.0)
    assert parse_spec(spec.model_dump(mode="json"), where="here") == spec


def test_the_folder_of_pictures_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = with_overrides(parse_spec(SMALL, where="here"), ["lights.kind=hdri", "lights.folder=sky"])
    assert spec.lights.folder == str(tmp_path / "sky")


def test_a_spec_cannot_be_changed_in_place():
    spec = load_spec("demo")
    assert isinstance(spec, DatasetSpec)
    with pytest.raises(ValueError, match="frozen"):
        spec.seed = 1
