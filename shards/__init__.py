"""Samples, shards and how to read them: random access, a stateless order, mixtures. Names are loaded on first use."""

from typing import TYPE_CHECKING

from randscene.lazy_names import lazy_names

if TYPE_CHECKING:
    from randscene.shards.dataset import Dataset, open_dataset
    from randscene.shards.dataset_card import write_card
    from randscene.shards.dataset_lint import lint
    from randscene.shards.energon import write_energon
    from randscene.shards.iterable_samples import IterableSamples
    from randscene.shards.mixture import Mixture
    from randscene.shards.order import permute
    from randscene.shards.preview import write_preview
    from randscene.shards.shard_cache import ShardCache
    from randscene.shards.shard_index import ShardIndex, load_index
    from randscene.shards.shard_lint import LintReport
    from randscene.shards.shard_writer import read_tar, write_shard, write_tar
    from randscene.shards.torch_loading import torch_loader
    from randscene.shards.view_sample import SCHEMA_VERSION, ViewSample, decode_sample, encode_members
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "SCHEMA_VERSION": "view_sample",
            "Dataset": "dataset",
            "IterableSamples": "iterable_samples",
            "LintReport": "shard_lint",
            "Mixture": "mixture",
            "ShardCache": "shard_cache",
            "ShardIndex": "shard_index",
            "ViewSample": "view_sample",
            "decode_sample": "view_sample",
            "encode_members": "view_sample",
            "lint": "dataset_lint",
            "load_index": "shard_index",
            "open_dataset": "dataset",
            "permute": "order",
            "read_tar": "shard_writer",
            "torch_loader": "torch_loading",
            "write_card": "dataset_card",
            "write_energon": "energon",
            "write_preview": "preview",
            "write_shard": "shard_writer",
            "write_tar": "shard_writer",
        },
    )

__all__ = [
    "SCHEMA_VERSION",
    "Dataset",
    "IterableSamples",
    "LintReport",
    "Mixture",
    "ShardCache",
    "ShardIndex",
    "ViewSample",
    "decode_sample",
    "encode_members",
    "lint",
    "load_index",
    "open_dataset",
    "permute",
    "read_tar",
    "torch_loader",
    "write_card",
    "write_energon",
    "write_preview",
    "write_shard",
    "write_tar",
]
