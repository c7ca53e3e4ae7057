"""A cluster whose machines are all too small for one worker is refused by name, unless it may grow."""

import contextlib
from typing import Any

import pytest
from in_process_ray import InProcessRay
from test_build import FAST

from randscene.errors import RenderError
from randscene.generator import build
from randscene.generator.build import generate
from randscene.generator.worker_place import refuse_without_place, waits_for
from randscene.manifests import load_spec, with_overrides
from randscene.manifests.spec_sections import RenderSpec


def node(cpus: float, gpus: float = 0.0, *, alive: bool = True) -> dict[str, Any]:
    """A machine that was started by hand, as Ray tells it: of what it lacks not a word."""
    resources = {"CPU": cpus, "GPU": gpus, "memory": 1e9}
    held = {name: value for name, value in resources.items() if value}
    return {"Alive": alive, "Resources": held, "Labels": {"ray.io/node-id": "00ff"}}


def render(threads: int, device: str = "cpu") -> RenderSpec:
    engine = "raycast" if device == "cpu" else "cycles"
    changes = [f"render.engine={engine}", f"render.device={device}", f"render.threads={threads}"]
    return with_overrides(load_spec("demo"), changes).render


def refuse(spec: RenderSpec, nodes: list[dict[str, Any]]) -> None:
    alive = [one["Resources"] for one in nodes if one["Alive"]]
    whole = {name: sum(each.get(name, 0.0) for each in alive) for name in ("CPU", "GPU")}
    refuse_without_place(spec, whole, nodes)


def test_workers_that_no_machine_can_hold_are_refused_with_what_there_is_and_what_to_set():
    with pytest.raises(RenderError) as caught:
        refuse(render(4), [node(0), node(2), node(3), node(8, alive=False)])
    assert caught.value.reason == "no_place"
    assert str(caught.value) == (
        "render.threads is 4, but the largest machine of this Ray cluster has 3 CPUs, so that no worker would ever "
        "start: lower it (--set render.threads=3), or start Ray on a machine that has 4 CPUs"
    )
    # Fewer processors in all than threads: no worker takes more than there are, but one machine must have those.
    with pytest.raises(RenderError, match=r"threads is 4, but the largest machine .* has 1 CPU,"):
        refuse(render(4), [node(1), node(1)])


def test_a_card_and_its_processors_must_be_in_one_machine():
    with pytest.raises(RenderError, match=r"machine with a GPU .* has 2 CPUs, .*threads=2.* has 4 CPUs and a GPU"):
        refuse(render(4, "cuda"), [node(64), node(2, gpus=4)])
    with pytest.raises(RenderError, match=r"machine with a GPU .* has 0 CPUs, .* start: start Ray on"):
        refuse(render(1, "cuda"), [node(64), node(0, gpus=1)])
    refuse(render(4, "cuda"), [node(2, gpus=4), node(4, gpus=1)])
    with pytest.raises(RenderError, match="Ray knows of no GPU"):
        refuse(render(1, "cuda"), [node(64)])


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param([node(1), node(4)], id="one holds it"),
        pytest.param([node(0), node(2)], id="the only machine gives all it has"),
        pytest.param([node(0)], id="none has come yet"),
        pytest.param(
            [{**node(2), "Labels": {"ray.io/node-id": "00ff", "ray.io/node-group": "head"}}, node(2)],
            id="a launcher may start others",
        ),
        pytest.param([{**node(2), "Labels": {}}, node(2)], id="Ray does not say who started it"),
    ],
)
def test_nothing_is_refused_that_may_yet_start(nodes):
    refuse(render(4), nodes)


def test_a_head_that_ray_up_has_set_up_may_get_more_machines(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(RenderError):
        refuse(render(4), [node(2), node(2)])
    (tmp_path / "ray_bootstrap_config.yaml").touch()
    refuse(render(4), [node(2), node(2)])


def test_who_waits_is_told_what_for():
    four, shared = {"num_cpus": 4}, {"num_cpus": 4, "num_gpus": 0.25}
    assert waits_for(four, [node(2), node(4)]) is None and waits_for(shared, [node(4, gpus=1)]) is None
    assert waits_for(four, [node(3)]) == "a machine with 4 CPUs (render.threads); the largest has 3 CPUs"
    assert waits_for(shared, [node(8), node(1, gpus=1)]) == (
        "a machine with 4 CPUs and a GPU (render.threads); the largest with a GPU has 1 CPU"
    )


def test_a_build_without_a_place_leaves_no_dataset_so_that_the_advice_can_be_followed(lock_path, tmp_path, monkeypatch):
    class SmallMachines(InProcessRay):
        def cluster_resources(self) -> dict[str, float]:
            return {"CPU": 2.0}

        def nodes(self) -> list[dict[str, Any]]:
            return [node(1), node(1)]

    monkeypatch.setattr(build, "ray_session", lambda *_, **__: contextlib.nullcontext(SmallMachines()))
    spec = with_overrides(load_spec("demo"), [*FAST, "render.threads=2"])
    with pytest.raises(RenderError, match=r"--set render\.threads=1"):
        generate(spec, lock_path, tmp_path / "dataset", ray_address="head:6379")
    assert [path.name for path in (tmp_path / "dataset").iterdir() if not path.name.startswith(".")] == []
