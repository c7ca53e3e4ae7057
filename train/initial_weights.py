"""Where the flow's first weights come from when a run does not begin from nothing.

Every form holds the same tensors under the same names (`SparseStructureFlow`), and all of them must be there:

* a Hugging Face id, or a folder in the hub's layout (`ckpts/ss_flow_img_dit_L_16l8_fp16.json` and `.safetensors`);
* an I-Scene folder: its `iscene_config.json` names the denoiser's checkpoint;
* a run folder of this package, or one of its checkpoints: the moving average is taken;
* a `.safetensors` file, or a `.pt` training checkpoint of TRELLIS or I-Scene (tensors alone are read, no code).
"""

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from randscene.errors import CheckpointError
from randscene.files import sha256_of
from randscene.train import checkpoint as checkpoints
from randscene.train.published import FLOW_STEM, find_model, is_repository, read_config, refuse_mistyped_run
from randscene.train.state_dict import SUFFIXES, load_strict, read_tensors, read_torch_file

if TYPE_CHECKING:
    from torch import Tensor, nn

    from randscene.train.sparse_structure_flow import SparseStructureFlow

ISCENE_CONFIG = "iscene_config.json"
DENOISER = "denoiser_checkpoint"
AVERAGE = "model_ema"
"""The file of a checkpoint that holds the flow's moving average."""
CONDITIONER_AVERAGE = "conditioner_ema"
_PARALLEL = "module."
"""What data-parallel training puts before every name."""
_SOURCE_GATES = re.compile(r"blocks\.\d+\.self_attn\.(?:ext_gate|k_type_bias)(?:\..+)?")


def load_initial_flow(flow: "SparseStructureFlow", source: str) -> str:
    """Copy the weights in `source` into `flow`: every tensor, and nothing else; converted to the flow's types.

    Parameters
    ----------
    flow : SparseStructureFlow
        Changed in place. Scene context adds no tensors, so its blocks may be any.
    source : str
        See the module's first lines.

    Returns
    -------
    str
        SHA-256 of the file that was read.

    Raises
    ------
    CheckpointError
        If there is no such source, a file is missing, damaged or unsafe, or the tensors are not the flow's; `flow` is
        as it was then.
    """
    weights, verified = _find(source)
    if verified:
        tensors = checkpoints.read_tensors(weights.parent, AVERAGE)
    elif weights.suffix in SUFFIXES:
        tensors = _bare_names(read_torch_file(weights))
    else:
        tensors = read_tensors(weights)
    gate = next((name for name in tensors if _SOURCE_GATES.fullmatch(name)), None)
    if gate is not None:
        raise CheckpointError(
            f"{weights} was trained with gates on the sources of scene context ({gate}), which this model does not "
            "have: give a checkpoint without them"
        )
    load_strict(flow, tensors, str(weights))
    return sha256_of(weights)


def load_initial_conditioner(conditioner: "nn.Module", source: str) -> bool:
    """Copy the trained image encoder that lies beside the flow in a run or checkpoint of ours.

    Parameters
    ----------
    conditioner : nn.Module
        Changed in place.
    source : str
        As for `load_initial_flow`, which has accepted it.

    Returns
    -------
    bool
        False if the source has no image encoder of its own: the conditioner is as it was then.

    Raises
    ------
    CheckpointError
        If the encoder that is there is damaged or of another shape.
    """
    weights, ours = _find(source)
    if not ours or CONDITIONER_AVERAGE not in checkpoints.read_state(weights.parent).files:
        return False
    where = str(weights.with_name(f"{CONDITIONER_AVERAGE}.safetensors"))
    load_strict(conditioner, checkpoints.read_tensors(weights.parent, CONDITIONER_AVERAGE), where)
    return True


def check_source(source: str) -> None:
    """Refuse what is certainly no source of `load_initial_flow`; reads no weights and asks no hub.

    Raises
    ------
    CheckpointError
        If there is no such source.
    """
    _find_here(source)


def _find(source: str) -> tuple[Path, bool]:
    """The file of weights, and whether it belongs to a checkpoint of ours, which knows the file's hash."""
    return _find_here(source) or (find_model(source, FLOW_STEM).weights, False)


def _find_here(source: str) -> tuple[Path, bool] | None:
    """As `_find`; None for what is on the hub, or in the hub's layout."""
    path = Path(source)
    if path.suffix in (".safetensors", *SUFFIXES) and not path.is_dir():
        if not path.is_file():
            raise CheckpointError(f"{path} does not exist: name another file of weights")
        return path, False
    if not path.is_dir():
        if path.exists():
            raise CheckpointError(f"{path} is no file of weights: give a .safetensors or .pt file, or a folder")
        refuse_mistyped_run(source)
        if not is_repository(source):
            raise CheckpointError(
                f'no folder or file "{source}": give a run or one of its checkpoints, a folder that holds '
                f"ckpts/{FLOW_STEM}.json and .safetensors, an I-Scene folder, a .safetensors or .pt file, or a "
                "Hugging Face id"
            )
    elif (path / "state.json").is_file():
        return path / f"{AVERAGE}.safetensors", True
    elif (path / "settings.json").is_file():
        return checkpoints.latest_checkpoint(path) / f"{AVERAGE}.safetensors", True
    elif (path / ISCENE_CONFIG).is_file():
        return _denoiser(path), False
    elif not (path / "ckpts").is_dir():
        raise CheckpointError(
            f"{path} holds no weights of a flow: a run has settings.json, a checkpoint state.json, an I-Scene folder "
            f"{ISCENE_CONFIG}, a released model ckpts/{FLOW_STEM}.json and .safetensors"
        )
    return None


def _denoiser(folder: Path) -> Path:
    """The denoiser's checkpoint that an I-Scene folder names; it must lie in the folder."""
    where = folder / ISCENE_CONFIG
    member = read_config(where).get(DENOISER)
    if not isinstance(member, str) or not member:
        raise CheckpointError(f"{where} does not name a {DENOISER}: fetch or copy it again")
    parts = PurePosixPath(member.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in member:
        raise CheckpointError(f"{where} names a {DENOISER} outside its folder ({member}): it is not read")
    path = folder / parts
    if path.suffix not in (".safetensors", *SUFFIXES):
        raise CheckpointError(f"{where} names {member} as {DENOISER}, which is neither .pt nor .safetensors")
    if not path.is_file():
        raise CheckpointError(f"{path}, which {ISCENE_CONFIG} names, is missing: fetch or copy it, too")
    return path


def _bare_names(tensors: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """Without the prefix of data-parallel training, where every name has it."""
    if all(name.startswith(_PARALLEL) for name in tensors):
        return {name.removeprefix(_PARALLEL): value for name, value in tensors.items()}
    return tensors
