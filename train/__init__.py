"""From shards to scores: models, training, sampling, prediction, registration, metrics.

Names are loaded on first use: importing this package imports neither torch nor any other heavy library.
"""

import sys
import types
from typing import TYPE_CHECKING

from randscene.lazy_names import lazy_names

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
__all__ = [
    "ChamferDistance",
    "GroupedLoss",
    "LoadedDecoder",
    "LoadedEncoder",
    "Registration",
    "SparseStructureDecoder",
    "SparseStructureEncoder",
    "SparseStructureFlow",
    "aabb_iou",
    "chamfer",
    "decode_latents",
    "encode_voxels",
    "f_score",
    "load_decoder",
    "load_encoder",
    "robust_icp",
    "sample",
]

if TYPE_CHECKING:
    from randscene.train.flow_matching import GroupedLoss
    from randscene.train.metrics import ChamferDistance, aabb_iou, chamfer, f_score
    from randscene.train.robust_icp import Registration, robust_icp
    from randscene.train.sampler import sample
    from randscene.train.sparse_structure_flow import SparseStructureFlow
    from randscene.train.sparse_structure_vae import SparseStructureDecoder, SparseStructureEncoder
    from randscene.train.structure_encoder import (
        LoadedDecoder,
        LoadedEncoder,
        decode_latents,
        encode_voxels,
        load_decoder,
        load_encoder,
    )
else:
    __getattr__, __dir__ = lazy_names(__name__, _HOME)


class _Room(types.ModuleType):
    """Importing the module `robust_icp` must not hide the function of that name."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOME and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Room
