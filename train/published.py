"""Published model files: a configuration json and a safetensors file of the same stem, in the hub's layout.

A source is a folder that holds `ckpts/{stem}.json` and `ckpts/{stem}.safetensors`, or a Hugging Face id such as
`microsoft/TRELLIS-image-large`, whose files are then fetched (once) by the optional package `huggingface_hub`.
"""

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from randscene.errors import CheckpointError, first_line
from randscene.extras import install_command
from randscene.settings_file import did_you_mean

ENCODER_STEM = "ss_enc_conv3d_16l8_fp16"
DECODER_STEM = "ss_dec_conv3d_16l8_fp16"
FLOW_STEM = "ss_flow_img_dit_L_16l8_fp16"


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """One published model on disk."""

    config: dict[str, Any]
    """`{"name": class name, "args": constructor arguments}`."""
    weights: Path
    """The safetensors file."""


def find_model(source: str, stem: str) -> ModelFiles:
    """The configuration and weights called `stem` in `source` (a folder, or a Hugging Face id).

    Raises
    ------
    CheckpointError
        If the source is neither, a file is missing or cannot be fetched, or the configuration cannot be read.
    """
    wanted = f"ckpts/{stem}.json and ckpts/{stem}.safetensors"
    folder = Path(source)
    if folder.is_dir():
        config_file, weights = folder / "ckpts" / f"{stem}.json", folder / "ckpts" / f"{stem}.safetensors"
        if not (config_file.is_file() and weights.is_file()):
            raise CheckpointError(f"{folder} does not hold {wanted}: copy both there, or name another folder")
    elif is_repository(source):
        config_file, weights = (fetch(source, f"ckpts/{stem}.{suffix}", wanted) for suffix in ("json", "safetensors"))
    else:
        raise CheckpointError(f'no folder "{source}": give "mini", a folder that holds {wanted}, or a Hugging Face id')
    return ModelFiles(config=read_config(config_file), weights=weights)


def is_repository(source: str) -> bool:
    """Whether text has the form of a Hugging Face id, `owner/name`, rather than that of a path."""
    return source.count("/") == 1 and not source.startswith((".", "/", "~"))


def refuse_mistyped_run(source: str) -> None:
    """Tell a path that is not there from a Hugging Face id, before the network is asked for it.

    Text is a path if its first part is a folder here: nobody who names a run in `runs` means the owner `runs`.

    Raises
    ------
    CheckpointError
        If it is a path of nothing; with what is there and most like it.
    """
    path = Path(source)
    here = Path(*path.parts[:1])
    if path.exists() or len(path.parts) < 2 or not here.is_dir():
        return
    missing = path.name
    for part in path.parts[1:]:
        if not (here / part).is_dir():
            missing = part
            break
        here /= part
    there = sorted(child.name for child in here.iterdir() if not child.name.startswith("."))
    holds = f"; it holds {', '.join(there[:5])}{', ...' * (len(there) > 5)}" if there else "; it is empty"
    hint = did_you_mean(missing, there) or holds
    raise CheckpointError(f"no run or weights at {source}: there is no {missing} in {here}{hint}")


def refuse_folder_of_runs(source: str) -> None:
    """Tell the folder around what was meant, a run or a checkpoint, from published weights.

    Raises
    ------
    CheckpointError
        If `source` is the `checkpoints` folder of a run, or a folder that holds runs; with what to give instead.
    """
    folder = Path(source)
    if not folder.is_dir():
        return
    if folder.resolve().name == "checkpoints" and (folder.parent / "settings.json").is_file():
        raise CheckpointError(
            f"{source} is the folder of a run's checkpoints: give the run, {folder.parent}, or one of them"
        )
    runs = sorted(child.name for child in folder.iterdir() if (child / "settings.json").is_file())
    if runs:
        more = f" (or {', '.join(runs[1:5])}{', ...' * (len(runs) > 5)})" if runs[1:] else ""
        raise CheckpointError(f"{source} holds runs and is none: give {folder / runs[0]}{more}")


def read_config(path: Path) -> dict[str, Any]:
    """The json object in `path`; `CheckpointError` if it is missing or not a json object."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: a model needs its json beside its safetensors file") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}): fetch or copy it again") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} does not hold a JSON object: fetch or copy it again")
    return config


def fetch(repository: str, member: str, wanted: str) -> Path:
    """The file `member` of a Hugging Face repository, from its cache or the network.

    Raises
    ------
    CheckpointError
        If it cannot be had; the message advises to put `wanted` in a folder.
    """
    hint = f'or put {wanted} in a folder of your own and give its path instead of "{repository}"'
    try:
        hub = importlib.import_module("huggingface_hub")
        hub_errors = importlib.import_module("huggingface_hub.errors")
    except ImportError as error:
        raise CheckpointError(
            f'"{repository}" is no folder here, and fetching it needs huggingface_hub: {install_command("hub")}, {hint}'
        ) from error
    try:
        return Path(hub.hf_hub_download(repository, member))
    except (OSError, ValueError, hub_errors.HfHubHTTPError) as error:
        raise CheckpointError(
            f"cannot fetch {member} of {repository} ({first_line(error)}): check the network, {hint}"
        ) from error
