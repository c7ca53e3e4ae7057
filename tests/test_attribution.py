"""Licence and credit go with an asset into every sample that shows it, and their absence is found."""

import copy
import dataclasses

import pytest
from shard_fixtures import make_sample

from randscene.errors import SpecError
from randscene.generator.planning import PlanContext, plan_scene
from randscene.generator.scene_maker import SceneMaker
from randscene.manifests import LicencePolicy, attribution_markdown, load_spec, usable, with_overrides
from randscene.manifests.candidate_record import under_policy
from randscene.shards.shard_lint import LintReport, check_sample

FAST = [
    "cameras.views=4",
    "render.resolution=48",
    "render.engine=raycast",
    "layout.objects=[2, 4]",
    "latents.encoder=null",
    "layout.repeat_assets=true",
]


@pytest.fixture(scope="module")
def credited(lock):
    """The lock's assets, each with a licence and credit of its own."""
    licences = [("CC-BY-4.0", "CC-BY-SA-4.0", "MIT")[number % 3] for number in range(len(lock))]
    return [
        dataclasses.replace(item, licence=licence, attribution=f'"{item.uid}" by Ünï, {licence}')
        for item, licence in zip(lock, licences)
    ]


def test_every_sample_names_the_licence_and_credit_of_each_instance(credited):
    spec = with_overrides(load_spec("demo"), FAST)
    records = {item.uid: item for item in usable(credited)}
    recipe = plan_scene(PlanContext.of(spec, credited), 0)
    samples = list(SceneMaker(spec, records, "0" * 64).make(recipe).samples)
    credits = attribution_markdown(records.values())
    assert samples
    for sample in samples:
        for shown in sample.meta["instances"]:
            record = records[shown["uid"]]
            assert (shown["licence"], shown["attribution"]) == (record.licence, record.attribution)
            assert shown["attribution"] in credits


def test_a_refused_asset_is_never_drawn(credited):
    spec = with_overrides(load_spec("demo"), FAST)
    policy = LicencePolicy(deny=frozenset({"MIT"}))
    context = PlanContext.of(spec, [under_policy(item, policy) for item in credited])
    mit = {item.uid for item in credited if item.licence == "MIT"}
    drawn = {instance.uid for index in range(6) for instance in plan_scene(context, index).instances}
    assert mit and not drawn & mit
    with pytest.raises(SpecError):
        PlanContext.of(spec, [under_policy(item, LicencePolicy(allow=frozenset({"Zlib"}))) for item in credited])


@pytest.mark.parametrize("lost", ["licence", "attribution"])
def test_lint_finds_an_instance_without_its_licence_or_credit(lost):
    sample = make_sample(0, 0)
    info = {"fingerprint": sample.meta["fingerprint"]}
    whole, damaged = LintReport(), LintReport()
    check_sample(sample, "here", sample.meta["split"], info, None, set(), whole)
    meta = copy.deepcopy(sample.meta)
    del meta["instances"][0][lost]
    check_sample(dataclasses.replace(sample, meta=meta), "here", meta["split"], info, None, set(), damaged)
    assert whole.ok
    assert [problem.message for problem in damaged.problems] == [f"instance 1 does not state its {lost}"]
