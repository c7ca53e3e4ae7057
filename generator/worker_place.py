"""Whether any machine of a Ray cluster can hold one worker of a build: one that none can hold waits for ever."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from randscene.errors import RenderError
from randscene.generator.render_device import actor_options
from randscene.manifests.spec_sections import RenderSpec

_NODE, _GROUP = "ray.io/node-id", "ray.io/node-group"
"""Labels that Ray gives to every machine, and to those that a launcher has started, which may start more."""
_LAUNCHER_FILE = "ray_bootstrap_config.yaml"
"""What `ray up` leaves in the home folder of the head, where builds are started; its older autoscaler sets no label."""


def refuse_without_place(
    render: RenderSpec, resources: Mapping[str, float], nodes: Sequence[Mapping[str, Any]]
) -> None:
    """See to it that one machine of a cluster whose machines were all started by hand can hold a worker.

    Nothing is said of a cluster that may grow by itself, nor of one that has no processors yet.

    Parameters
    ----------
    render : RenderSpec
    resources : mapping
        Of the whole cluster: `CPU`, `GPU`.
    nodes : sequence of mapping
        Its machines, as `ray.nodes()` tells them.

    Raises
    ------
    RenderError
        `no_place` if no machine has as many processors as a worker takes; `device_missing` if a card is asked for and
        Ray knows of none.
    """
    options, _ = actor_options(render, resources)
    largest = _largest(options, nodes)
    if largest >= options["num_cpus"] or resources.get("CPU", 0) < 1 or _may_grow(nodes):
        return
    card = " and a GPU" if "num_gpus" in options else ""
    lower = f"lower it (--set render.threads={largest}), or " if largest else ""
    raise RenderError(
        "no_place",
        f"render.threads is {render.threads}, but the largest machine{card and ' with a GPU'} of this Ray cluster has "
        f"{_cpus(largest)}, so that no worker would ever start: {lower}start Ray on a machine that has "
        f"{_cpus(render.threads)}{card}",
    )


def waits_for(options: Mapping[str, float], nodes: Sequence[Mapping[str, Any]]) -> str | None:
    """What workers of these options wait for, in words, as long as no machine can hold one; None where one can."""
    largest = _largest(options, nodes)
    if largest >= options["num_cpus"]:
        return None
    card = " and a GPU" if "num_gpus" in options else ""
    which = "the largest with a GPU" if card else "the largest"
    return f"a machine with {_cpus(int(options['num_cpus']))}{card} (render.threads); {which} has {_cpus(largest)}"


def _largest(options: Mapping[str, float], nodes: Sequence[Mapping[str, Any]]) -> int:
    """The most processors of any machine that has the share of a card that these options ask for; 0 without one."""
    found = [node["Resources"] for node in nodes if node["Alive"]]
    card = options.get("num_gpus", 0)
    return max((int(each.get("CPU", 0)) for each in found if each.get("GPU", 0) >= card), default=0)


def _may_grow(nodes: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a launcher with an autoscaler may be at work, or Ray is too old to say."""
    if (Path.home() / _LAUNCHER_FILE).exists():
        return True
    labels = [node.get("Labels") or {} for node in nodes if node["Alive"]]
    return any(_GROUP in given or _NODE not in given for given in labels)


def _cpus(count: int) -> str:
    return f"{count} CPU{'' if count == 1 else 's'}"
