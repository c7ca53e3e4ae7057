"""Which device a renderer runs on, and what Ray reserves for it: settled or refused before any scene is made."""

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from randscene.errors import RenderError, SpecError
from randscene.generator import render_device
from randscene.generator.render_device import actor_options, best_kind, protocol_device, settle_device
from randscene.manifests import DatasetSpec, load_spec, with_overrides

CPU = {"type": "CPU", "name": "a processor", "ray_tracing": "no"}
CUDA = {"type": "CUDA", "name": "a card", "ray_tracing": "no"}


def spec(engine: str, device: str, *more: str) -> DatasetSpec:
    return with_overrides(load_spec("demo"), [f"render.engine={engine}", f"render.device={device}", *more])


class Hello:
    """Stands for a renderer process on a machine with certain devices."""

    def __init__(self, devices: list[Mapping[str, str]]) -> None:
        self.devices = devices

    def __call__(self) -> "Hello":
        return self

    def __enter__(self) -> "Hello":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def hello(self) -> "Hello":
        return self


@pytest.mark.parametrize(
    ("devices", "kind"),
    [
        ([CPU], None),
        ([CPU, CUDA], "cuda"),
        ([CPU, CUDA, {**CUDA, "type": "OPTIX", "ray_tracing": "yes"}], "optix"),
        ([CPU, CUDA, {**CUDA, "type": "OPTIX"}], "cuda"),
        ([CPU, {**CUDA, "type": "HIP"}], "hip"),
    ],
)
def test_gpu_is_the_best_kind_of_card_and_is_recorded_by_its_name(
    monkeypatch: pytest.MonkeyPatch, devices: list[Mapping[str, str]], kind: str | None
) -> None:
    assert best_kind(devices) == kind
    monkeypatch.setattr(render_device, "BlenderProcess", Hello(devices))
    if kind is None:
        with pytest.raises(RenderError, match=r"no graphics card.* CPU \(a processor\)") as caught:
            settle_device(spec("cycles", "gpu"), cluster=False)
        assert caught.value.reason == "device_missing"
    else:
        settled = settle_device(spec("cycles", "gpu"), cluster=False)
        assert settled.render.device == kind and protocol_device(settled.render) == kind.upper()


def test_a_named_kind_that_this_machine_lacks_is_refused_with_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render_device, "BlenderProcess", Hello([CPU, CUDA]))
    assert settle_device(spec("cycles", "cuda"), cluster=False) == spec("cycles", "cuda")
    with pytest.raises(RenderError, match=r"no HIP device; it has CPU \(a processor\), CUDA \(a card\)"):
        settle_device(spec("cycles", "hip"), cluster=False)


def test_nothing_is_started_where_no_card_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(render_device, "BlenderProcess")
    for wanted in (spec("cycles", "cpu"), spec("raycast", "cpu"), spec("eevee", "gpu")):
        assert settle_device(wanted, cluster=False) is wanted


def test_a_cluster_must_be_told_the_kind_of_its_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(render_device, "BlenderProcess")
    assert settle_device(spec("cycles", "cuda"), cluster=True).render.device == "cuda"
    with pytest.raises(SpecError, match="name the kind"):
        settle_device(spec("cycles", "gpu"), cluster=True)


@pytest.mark.parametrize(("engine", "device"), [("raycast", "gpu"), ("eevee", "cuda"), ("cycles", "tpu")])
def test_a_spec_may_not_ask_an_engine_for_a_device_that_it_does_not_know(engine: str, device: str) -> None:
    with pytest.raises(SpecError, match=r"render\.device"):
        spec(engine, device)


def test_renderers_share_a_card_and_no_more_are_started_than_find_room() -> None:
    four = {"CPU": 64.0, "GPU": 4.0}
    assert actor_options(spec("cycles", "cpu").render, four) == ({"num_cpus": 1}, 64)
    options, room = actor_options(spec("eevee", "gpu").render, four)
    assert options == {"num_cpus": 1, "num_gpus": 0.125} and room == 32
    options, room = actor_options(spec("cycles", "cuda", "render.processes_per_gpu=7").render, four)
    assert room == 28 and 7 * options["num_gpus"] <= 1
    options, room = actor_options(spec("cycles", "cuda", "render.threads=4").render, four)
    assert options["num_cpus"] == 4 and room == 16
    # What has fewer processors than threads renders too; a head without any says nothing of the machines to come.
    threaded = spec("raycast", "cpu", "render.threads=4").render
    assert actor_options(threaded, {"CPU": 2.0}) == ({"num_cpus": 2}, 1)
    assert actor_options(threaded, {}) == ({"num_cpus": 4}, 1)
    with pytest.raises(RenderError, match="Ray knows of no GPU") as caught:
        actor_options(spec("cycles", "cuda").render, {"CPU": 8.0})
    assert caught.value.reason == "device_missing"


@pytest.mark.ray
def test_a_renderer_sees_the_card_that_ray_gave_to_its_actor() -> None:
    ray = pytest.importorskip("ray")
    # A card need not exist to be counted.
    ray.init(
        "local", num_cpus=2, num_gpus=2, include_dashboard=False, object_store_memory=128 * 2**20, log_to_driver=False
    )
    try:
        options, _ = actor_options(spec("eevee", "gpu", "render.processes_per_gpu=1").render, ray.cluster_resources())

        class Actor:
            def child_sees(self) -> str:
                code = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
                return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

        actors = [ray.remote(**options)(Actor).remote() for _ in range(2)]
        assert {int(seen) for seen in ray.get([actor.child_sees.remote() for actor in actors])} == {0, 1}
    finally:
        ray.shutdown()
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
