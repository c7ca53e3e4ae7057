"""Checkpoints of a run: folders of safetensors and one `state.json`, whole or absent, verified when read.

RUN/settings.json                   what the run computes
RUN/checkpoints/step_0000300/       model, model_ema, conditioner, conditioner_ema, optimiser .safetensors (a frozen
                                    conditioner is not stored)
                                    state.json: step, settings digest, data facts, validation loss, sha256 of each file
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from randscene.canonical_json import dumps
from randscene.errors import CheckpointError, RandsceneError, SpecError
from randscene.files import explain_os_errors, fsync, no_room, sha256_of, write_atomic
from randscene.train.settings import RunSettings, parse_settings

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

SCHEMA_VERSION = 2
_FOLDER = re.compile(r"step_([0-9]{7,})")
_TEMPORARY = re.compile(r"\.step_[0-9]{7,}\.[0-9]+\.tmp")
_LEFT_OVER = re.compile(r"\.settings\.json\.[0-9a-f]+\.tmp")
_PART = re.compile(r"[a-z_]+")


@dataclass(frozen=True, kw_only=True)
class CheckpointState:
    """What `state.json` says."""

    step: int
    """Optimiser steps done; also the position in the data."""
    settings_digest: str
    data: dict[str, Any]
    """Facts of the data that a run depends on: frame, encoder name and sha256, fingerprints of the datasets."""
    files: dict[str, str]
    """SHA-256 of each tensor file, by name without suffix."""
    validation: float | None = None
    """Loss on held-out groups, where the run measures it."""


def check_run_folder(run: Path, settings: RunSettings) -> bool:
    """Whether `run` already is the folder of a run of `settings`; False if it is new or empty. Writes nothing.

    Raises
    ------
    CheckpointError
        If the folder holds a run of other settings, or something else.
    """
    if (run / "settings.json").is_file():
        there, wanted = load_run_settings(run).identity(), settings.identity()
        other = [name for name in sorted(there.keys() | wanted.keys()) if there.get(name) != wanted.get(name)]
        if other:
            hint = f"; --set init={run} begins with its weights" if other == ["optimiser.steps"] else ""
            raise CheckpointError(
                f"{run} holds a run of other settings ({', '.join(other)}): choose another --out{hint}"
            )
        return True
    # A kill during the first write leaves nothing but a temporary file.
    if run.exists() and (not run.is_dir() or any(not _LEFT_OVER.fullmatch(path.name) for path in run.iterdir())):
        raise CheckpointError(f"{run} exists and is not a training run: choose an empty or new folder for --out")
    return False


def open_run(run: Path, settings: RunSettings) -> None:
    """Make `run` the folder of `settings`, or check that it already is.

    Raises
    ------
    CheckpointError
        See `check_run_folder`; nothing is written then.
    RandsceneError
        If the folder cannot be written.
    """
    if not check_run_folder(run, settings):
        write_atomic(run / "settings.json", json.dumps(settings.to_dict(), indent=2) + "\n")


def load_run_settings(run: Path) -> RunSettings:
    """The settings that a run folder was begun with.

    Raises
    ------
    CheckpointError
        If `run` is not a run folder.
    """
    path = run / "settings.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return parse_settings(data, where=str(path))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(
            f"{run} is not a training run: it has no settings.json; give the --out of `randscene train`"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError, SpecError) as error:
        raise CheckpointError(f"{path} is damaged or of another version: {error}") from error


def save_checkpoint(
    run: Path,
    *,
    step: int,
    settings: RunSettings,
    data: Mapping[str, Any],
    tensors: Mapping[str, Mapping[str, "Tensor"]],
    validation: float | None = None,
) -> Path:
    """Write `run/checkpoints/step_{step}`, whole or not at all; then drop all but the best and `keep_checkpoints` last.

    Parameters
    ----------
    run : Path
        Run folder.
    step : int
        Optimiser steps done.
    settings : RunSettings
        Of the run; `keep_checkpoints` says how many stay.
    data : mapping
        JSON values, see `CheckpointState.data`.
    tensors : mapping
        For each file (name without suffix) its named tensors, on any device.
    validation : float, optional
        See `CheckpointState.validation`.

    Returns
    -------
    Path
        The checkpoint's folder. One that is already there is left as it is.

    Raises
    ------
    RandsceneError
        If the disk is full or not writable; the earlier checkpoints stay.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    folder = run / "checkpoints" / f"step_{step:07d}"
    if folder.exists():
        return folder
    temporary = _temporary(folder)
    with explain_os_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left_over in folder.parent.iterdir():
            if _TEMPORARY.fullmatch(left_over.name):
                shutil.rmtree(left_over)
        try:
            temporary.mkdir()
            for name, named in tensors.items():
                path = temporary / f"{name}.safetensors"
                whole = {key: value.detach().cpu().contiguous() for key, value in named.items()}
                try:
                    save_file(whole, path)
                except SafetensorError as error:  # no OSError, even where the disk is full
                    if line := no_room(str(error), folder):
                        raise RandsceneError(line) from error
                    raise
                fsync(path)
            state = {
                "schema": SCHEMA_VERSION,
                "step": step,
                "settings_digest": settings.digest(),
                "data": dict(data),
                "files": {name: sha256_of(temporary / f"{name}.safetensors") for name in tensors},
                "validation": validation,
            }
            write_atomic(temporary / "state.json", dumps(state) + "\n")
            temporary.rename(folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        fsync(folder.parent)
        # One that is damaged is in nobody's way here: it is neither the best nor what the run goes on from.
        best = _best([path for path in list_checkpoints(run) if _is_readable(path)])
        for old in list_checkpoints(run)[: -settings.keep_checkpoints]:
            if old != best:
                # Under its own name it must be whole, even if this process is killed half way.
                old = old.rename(_temporary(old))
                shutil.rmtree(old)
    return folder


def _temporary(folder: Path) -> Path:
    """Where a checkpoint is while it is not whole, or not wanted any more; matches `_TEMPORARY`."""
    return folder.with_name(f".{folder.name}.{os.getpid()}.tmp")


def list_checkpoints(run: Path) -> list[Path]:
    """The whole checkpoints of a run, by rising step."""
    folder = run / "checkpoints"
    if not folder.is_dir():
        return []
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _FOLDER.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def latest_checkpoint(run: Path) -> Path:
    """The checkpoint of the highest step.

    Raises
    ------
    CheckpointError
        If the folder is not a run or has no checkpoint yet.
    """
    load_run_settings(run)
    checkpoints = list_checkpoints(run)
    if not checkpoints:
        raise CheckpointError(f"{run} has no checkpoint yet: train it first")
    return checkpoints[-1]


def best_checkpoint(run: Path) -> Path:
    """The checkpoint of the lowest validation loss, among equal ones the earliest.

    Raises
    ------
    CheckpointError
        If the folder is not a run, or none of its checkpoints was measured.
    """
    load_run_settings(run)
    best = _best(list_checkpoints(run))
    if best is None:
        raise CheckpointError(f"{run} has no checkpoint with a validation loss: set validation.groups when training")
    return best


def _best(checkpoints: list[Path]) -> Path | None:
    measured = [(loss, path) for path in checkpoints if (loss := read_state(path).validation) is not None]
    return min(measured)[1] if measured else None


def _is_readable(checkpoint: Path) -> bool:
    try:
        read_state(checkpoint)
    except CheckpointError:
        return False
    return True


def read_state(checkpoint: Path) -> CheckpointState:
    """The `state.json` of a checkpoint.

    Raises
    ------
    CheckpointError
        If it is missing, damaged or of another schema.
    """
    path = checkpoint / "state.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA_VERSION:
            raise CheckpointError(f"{path} has schema {data['schema']}; this version reads {SCHEMA_VERSION}")
        state = CheckpointState(
            step=int(data["step"]),
            settings_digest=str(data["settings_digest"]),
            data=dict(data["data"]),
            files={str(name): str(value) for name, value in dict(data["files"]).items()},
            validation=None if data["validation"] is None else float(data["validation"]),
        )
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is missing or damaged: delete {checkpoint} to use an earlier one") from error
    if not all(_PART.fullmatch(name) for name in state.files):
        raise CheckpointError(f"{path} names files outside the checkpoint")
    return state


def checkpoint_sha256(checkpoint: Path) -> str:
    """Identity of a checkpoint: SHA-256 of `state.json`, which holds the hashes of all its tensors."""
    return sha256_of(checkpoint / "state.json")


def read_tensors(checkpoint: Path, name: str) -> dict[str, "Tensor"]:
    """The tensors of one file of a checkpoint, on the CPU, after its hash was checked.

    Raises
    ------
    CheckpointError
        If the file is missing or not the one that was written.
    """
    from safetensors.torch import load_file

    path = checkpoint / f"{name}.safetensors"
    expected = read_state(checkpoint).files.get(name)
    if expected is None:
        raise CheckpointError(f"{checkpoint} has no {name}.safetensors: it was exported, for prediction alone")
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: delete {checkpoint} to use an earlier one")
    if sha256_of(path) != expected:
        raise CheckpointError(f"{path} is damaged (its sha256 differs): delete {checkpoint} to use an earlier one")
    return load_file(path)


def optimiser_tensors(module: "nn.Module", optimiser: "Optimizer") -> dict[str, "Tensor"]:
    """State of an optimiser over the parameters of `module`, as `{parameter name}/{state name}` tensors."""
    return {
        f"{name}/{key}": value
        for name, parameter in module.named_parameters()
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def load_optimiser(module: "nn.Module", optimiser: "Optimizer", tensors: Mapping[str, "Tensor"], *, where: str) -> None:
    """Inverse of `optimiser_tensors`.

    Raises
    ------
    CheckpointError
        If a parameter has no state in the file, or of another shape.
    """
    states: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, kind = key.rpartition("/")
        states.setdefault(name, {})[kind] = value
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    index = {id(parameter): number for number, parameter in enumerate(parameters)}
    restored = {}
    for name, parameter in module.named_parameters():
        if id(parameter) not in index:
            continue
        state = states.get(name, {})
        if any(value.shape not in (parameter.shape, ()) for value in state.values()) or not state:
            raise CheckpointError(f"{where} has no optimiser state that fits {name}")
        restored[index[id(parameter)]] = state
    optimiser.load_state_dict({"state": restored, "param_groups": optimiser.state_dict()["param_groups"]})
