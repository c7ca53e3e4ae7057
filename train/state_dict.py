"""State dicts, names with their tensors: read from a safetensors file or PyTorch's own, and copied into a module.

PyTorch's own files (`.pt`, `.pth`) are pickles: an ordinary load can run any code that the file names. Here only
tensors and plain containers are rebuilt, and everything else is refused.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from randscene.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn

SUFFIXES = (".pt", ".pth")
"""Of PyTorch's own files."""


def read_tensors(path: Path) -> dict[str, "Tensor"]:
    """Every tensor of a safetensors file, on the CPU; `CheckpointError` if the file is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: fetch or copy it again") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error}): fetch or copy it again") from error


def read_torch_file(path: Path) -> dict[str, "Tensor"]:
    """The state dict in `path`, on the CPU.

    Parameters
    ----------
    path : Path
        A file that `torch.save` wrote of one flat mapping of names to tensors.

    Returns
    -------
    dict of str to Tensor

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, holds more than tensors (nothing of it is run), or no flat mapping.
    """
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: fetch or copy it again") from error
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(
            f"{path} is damaged or holds more than tensors ({_reason(error)}): nothing of it was run; fetch it again, "
            "or convert it to safetensors where you trust it"
        ) from error
    if not isinstance(found, dict) or not found:
        raise CheckpointError(
            f"{path} holds {_kind(found)} where named tensors are expected: give the weights' own file"
        )
    for name, value in found.items():
        if not (isinstance(name, str) and isinstance(value, torch.Tensor)):
            raise CheckpointError(
                f"{path} holds {_kind(value)} under {name!r} where named tensors are expected: save only the state dict"
            )
        if value.layout != torch.strided or value.is_meta or value.is_quantized or not value.is_floating_point():
            raise CheckpointError(f"{path}: {name} is not a dense floating-point tensor: export the weights again")
    return found


def load_strict(module: "nn.Module", tensors: Mapping[str, "Tensor"], origin: str) -> None:
    """Copy `tensors` into `module`: every name and shape must agree. Values are converted to the module's types.

    Raises
    ------
    CheckpointError
        Naming the first tensor that is missing, unexpected or of another shape, and how many there are.
    """
    own = module.state_dict()
    faults = [f"{name} is missing" for name in own if name not in tensors]
    faults += [f"{name} is not part of the model" for name in tensors if name not in own]
    faults += [
        f"{name} has shape {tuple(tensor.shape)} where the model has {tuple(own[name].shape)}"
        for name, tensor in tensors.items()
        if name in own and tensor.shape != own[name].shape
    ]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise CheckpointError(f"{origin} does not fit {type(module).__name__}: {faults[0]}{more}")
    module.load_state_dict(dict(tensors), strict=True)


def _reason(error: Exception) -> str:
    """The line of a message that says why, in at most 160 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith("WeightsUnpickler error")]
    line = (telling or lines or [type(error).__name__])[0].removeprefix("WeightsUnpickler error: ")
    return line if len(line) <= 160 else f"{line[:157]}..."


def _kind(value: object) -> str:
    return "an empty mapping" if value == {} else f"a {type(value).__name__}"
