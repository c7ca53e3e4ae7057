"""From shards to scores: models, training, sampling, prediction, registration, metrics.

Names are loaded on first use: importing this package imports neither torch nor any other heavy library.
"""

import importlib
import sys
import types
from typing import Any

_HOME = {
    "ChamferDistance": "metrics",
    "GroupedLoss": "flow_matching",
    "LoadedDecoder": "structure_encoder",
    "LoadedEncoder": "structure_encoder",
    "Registration": "robust_icp",
    "SparseStructureDecoder": "sparse_structure_vae",
    "SparseStructureEncoder": "sparse_structure_vae",
    "SparseStructureFlow": "sparse_structure_flow",
    "aabb_iou": "metrics",
    "chamfer": "metrics",
    "decode_latents": "structure_encoder",
    "encode_voxels": "structure_encoder",
    "f_score": "metrics",
    "load_decoder": "structure_encoder",
    "load_encoder": "structure_encoder",
    "robust_icp": "robust_icp",
    "sample": "sampler",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


class _Room(types.ModuleType):
    """Importing the module `robust_icp` must not hide the function of that name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Room
