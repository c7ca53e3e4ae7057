"""A run's averaged weights alone, to pass on: a third of a checkpoint's size, a sixth in half precision."""

from pathlib import Path

from randscene.errors import CheckpointError
from randscene.train.checkpoint import (
    best_checkpoint,
    latest_checkpoint,
    list_checkpoints,
    load_run_settings,
    open_run,
    read_state,
    read_tensors,
    save_checkpoint,
)
from randscene.train.conditioned_flow import run_of

AVERAGED = "_ema"
"""Ends the names of a checkpoint's files with averaged weights."""


def export_weights(source: Path, out: Path, *, best: bool = False, half: bool = False) -> Path:
    """Write a run folder with nothing but its settings and one checkpoint's averaged weights.

    It serves wherever weights are read: `randscene predict`, `init`, `init: arm:...`'s path. Training cannot go on in
    it, since the weights themselves and the optimiser's state are left out.

    Parameters
    ----------
    source : Path
        A run, or one of its checkpoints.
    out : Path
        A new or empty folder, or what an interrupted export left there.
    best : bool
        Of a run, the checkpoint of the lowest validation loss; the newest by default.
    half : bool
        Round to float16, as released models are.

    Returns
    -------
    Path
        `out/checkpoints/step_...`.

    Raises
    ------
    CheckpointError
        If there is no such checkpoint, it is damaged, or `out` holds something.
    RandsceneError
        If the disk is full or not writable.
    """
    if (source / "state.json").is_file():
        if best:
            raise CheckpointError(f"{source} is one checkpoint: give its run to choose the best one of")
        checkpoint = source.resolve()  # given from inside the run, too, it lies in a folder called checkpoints
    else:
        checkpoint = best_checkpoint(source) if best else latest_checkpoint(source)
    settings, state = load_run_settings(run_of(checkpoint)), read_state(checkpoint)
    if out.exists() and not _is_free(out):
        raise CheckpointError(f"{out} is not empty: choose a new folder for --out")
    tensors = {name: read_tensors(checkpoint, name) for name in state.files if name.endswith(AVERAGED)}
    if half:
        tensors = {
            name: {key: value.half() if value.is_floating_point() else value for key, value in named.items()}
            for name, named in tensors.items()
        }
    open_run(out, settings)
    return save_checkpoint(
        out, step=state.step, settings=settings, data=state.data, tensors=tensors, validation=state.validation
    )


def _is_free(out: Path) -> bool:
    """Whether a folder is empty but for what an export leaves that was stopped half way."""
    if not out.is_dir() or list_checkpoints(out):
        return False
    return {path.name for path in out.iterdir()} <= {"settings.json", "checkpoints"}
