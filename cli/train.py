"""`randscene train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from randscene.cli.completion import run_presets, torch_devices
from randscene.cli.console import console, progress_bar

if TYPE_CHECKING:
    from randscene.train.process_group import ProcessGroup
    from randscene.train.run_log import StepMetrics
    from randscene.train.step_plan import StepPlan


def train(
    data: Annotated[
        list[str], typer.Argument(help="Dataset folders or URLs, drawn from as data.mixture says, or by their sizes.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Run folder; run again to go on after an interruption.")],
    preset: Annotated[
        str,
        typer.Option(
            help="A preset (mini, small, iscene, mix-3dfront-rand15k) or the path of a YAML file.",
            autocompletion=run_presets,
        ),
    ] = "mini",
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the whole run, instead of the preset's.")] = None,
    device: Annotated[
        str | None,
        typer.Option(help="cpu or gpu (cuda); a GPU where there is one by default.", autocompletion=torch_devices),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Replace one field of the settings: section.field=value.")
    ] = None,
) -> None:
    """Train a flow transformer with scene-context attention on datasets. The same command resumes after a stop.

    On several GPUs start it with torchrun: torchrun --nproc-per-node 8 -m randscene.cli.main train ...

    Example: randscene train demo/dataset --preset mini --out runs/mini
    """
    from randscene.train.settings import load_settings, with_overrides
    from randscene.train.trainer import train as run_training

    overrides = [*(set_ or []), *([f"optimiser.steps={steps}"] if steps is not None else [])]
    settings = with_overrides(load_settings(preset), overrides)
    bar = progress_bar("{task.fields[note]}")
    recent: list[float] = []

    def begin(plan: "StepPlan", group: "ProcessGroup") -> None:
        console.print(f"{group.size} x {group.device_name}: {plan}")
        bar.start()
        bar.add_task("train", total=settings.optimiser.steps, note="first step")

    def show(metrics: "StepMetrics") -> None:
        recent.append(metrics.loss)
        del recent[:-20]
        note = f"loss {sum(recent) / len(recent):.3f}, {metrics.samples_per_s:.1f} views/s"
        bar.update(bar.task_ids[0], completed=metrics.step, note=note)

    try:
        report = run_training(data, settings, out, device=device, started=begin, progress=show)
    finally:
        bar.stop()
    if not report.is_main:
        raise typer.Exit(130 if report.interrupted else 0)
    rate = report.steps_made / report.seconds if report.seconds else 0.0
    done = f"{report.step} steps done (this time {report.steps_made} in {report.seconds:.0f} s, {rate:.2f} steps/s)"
    if report.interrupted:
        console.print(f"stopped: {done}, saved in {report.checkpoint}; run the same command again to go on")
        raise typer.Exit(130)
    console.print(f"{done}; checkpoint {report.checkpoint}")
