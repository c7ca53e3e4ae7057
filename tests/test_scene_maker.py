"""What a scene maker promises beyond whole scenes: parts of them are the same to the byte, and its time is told."""

import pytest

from randscene.generator.planning import PlanContext, plan_scene
from randscene.generator.scene_maker import SceneMaker
from randscene.generator.stage_clock import StageClock
from randscene.manifests import load_spec, with_overrides
from randscene.shards.view_sample import encode_members

SMALL = [
    *("splits.train.scenes=3", "cameras.views=8", "layout.objects=[2, 3]", "latents.encoder=null"),
    *("assets.held_out_fraction=0", "splits.val.held_out_assets=false", "render.resolution=64"),
]


@pytest.mark.parametrize("engine", ["raycast", pytest.param("cycles", marks=pytest.mark.blender)])
def test_some_views_of_a_scene_are_those_of_the_whole_scene_and_every_stage_is_timed(engine, lock):
    spec = with_overrides(load_spec("demo"), [*SMALL, f"render.engine={engine}"])
    recipe = plan_scene(PlanContext.of(spec, lock), 0)
    clock = StageClock()
    maker = SceneMaker(spec, {record.uid: record for record in lock}, "f" * 64, clock)
    try:
        whole, part = maker.make(recipe), maker.make(recipe, most_views=3)
        everything = {sample.key: encode_members(sample) for sample in whole.samples}
        few = {sample.key: encode_members(sample) for sample in part.samples}
        assert (maker.renderer_pid is None) == (engine == "raycast")
    finally:
        maker.close()
    assert len(everything) == len(whole.views) > 3 and part.views == whole.views
    assert len(few) == 3 and all(everything[key] == members for key, members in few.items())
    stages = {"load", "label", "render", "voxelise"} | ({"reconstruct"} if engine == "cycles" else set())
    assert set(clock.stages) == stages
    assert all(spent.wall > 0 for spent in clock.stages.values())
