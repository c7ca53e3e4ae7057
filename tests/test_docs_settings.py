"""docs/settings.md is what the code says, and tells every field."""

from pathlib import Path

import pytest
import settings_page
from settings_page import PAGE, REQUIRED, page, sections

from randscene.manifests import load_spec
from randscene.manifests import with_overrides as change_spec
from randscene.manifests.spec import DatasetSpec
from randscene.settings_file import dotted_names
from randscene.train.settings import RunSettings, load_settings
from randscene.train.settings import with_overrides as change_settings


def test_the_page_is_what_the_code_says():
    script = Path(settings_page.__file__).name
    assert PAGE.read_text(encoding="utf-8") == page(), f"write it again: python tests/{script}"


@pytest.mark.parametrize("record", [DatasetSpec, RunSettings])
def test_every_field_is_told_once(record):
    told = [field.name for section in sections(record) for field in section.fields]
    data = load_spec("demo").model_dump() if record is DatasetSpec else load_settings("mini").to_dict()
    names = set(dotted_names(data))
    leaves = {name for name in names if not any(other.startswith(f"{name}.") for other in names)}
    splits = {name for name in leaves if name.startswith("splits.")}
    leaves = leaves - splits | {f"splits.NAME.{name.split('.')[2]}" for name in splits}
    assert len(told) == len(set(told)) > 40 and set(told) == leaves


def test_every_field_of_a_training_run_says_what_it_means():
    assert not [field.name for section in sections(RunSettings) for field in section.fields if not field.meaning]


def assignments(record: type) -> list[str]:
    """What `--set` takes for the defaults that the page states, word for word."""
    told = [field for section in sections(record) for field in section.fields]
    return [
        f"{field.name}={field.default.strip('`')}"
        for field in told
        if field.default != REQUIRED and not field.name.startswith("splits.")
    ]


def test_the_defaults_on_the_page_given_to_set_are_those_of_the_code():
    spec, run = load_spec("demo"), load_settings("mini")
    bare_spec, bare_run = DatasetSpec(name="demo", splits=spec.splits), RunSettings(name="mini")
    assert spec != bare_spec and change_spec(spec, assignments(DatasetSpec)) == bare_spec
    assert run != bare_run and change_settings(run, assignments(RunSettings)) == bare_run
