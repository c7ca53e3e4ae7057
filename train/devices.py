"""The device that a command or call asks for."""

import torch

from randscene.errors import SpecError


def choose_device(name: str | None = None) -> torch.device:
    """`cpu`, `cuda` or `cuda:N` as a device; where nothing is asked for, CUDA if there is such a device.

    `gpu`, the word of `randscene generate`, is taken as `cuda`.

    Raises
    ------
    SpecError
        If there is no such device.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(f"cuda{name[3:]}" if name == "gpu" or name.startswith("gpu:") else name)
    except RuntimeError as error:
        raise SpecError(f"device {name}: there is no such kind; choose cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise SpecError(f"device {name}: not one that this package runs on; choose cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SpecError(f"device {name}: this machine has no CUDA device that torch can use; choose cpu")
    if device.index is not None and device.type == "cuda" and device.index >= torch.cuda.device_count():
        raise SpecError(f"device {name}: this machine has {torch.cuda.device_count()} CUDA devices, counted from 0")
    return device
