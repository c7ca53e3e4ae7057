"""What goes into a dataset: asset sources, inspection, licences, the asset lock, dataset specs. Loaded on first use."""

from typing import TYPE_CHECKING

from randscene.lazy_names import lazy_names

if TYPE_CHECKING:
    from randscene.manifests.asset_mesh import AssetMesh, Surface, load_asset_mesh
    from randscene.manifests.asset_record import AssetRecord, Support
    from randscene.manifests.build import build_lock
    from randscene.manifests.inspection import AssetFacts, inspect_asset, inspect_assets
    from randscene.manifests.licences import LicencePolicy, attribution_markdown, commercial_safe
    from randscene.manifests.lock import (
        load_lock,
        lock_hash,
        merge_locks,
        same_shape,
        usable,
        verified_path,
        write_lock,
    )
    from randscene.manifests.lock_report import LockProgress, LockReport
    from randscene.manifests.objaverse_files import NetworkLimits
    from randscene.manifests.objaverse_source import ObjaverseOptions
    from randscene.manifests.spec import DatasetSpec, load_spec, parse_spec, preset_names, with_overrides
    from randscene.manifests.support_surface import find_support
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "AssetFacts": "inspection",
            "AssetMesh": "asset_mesh",
            "AssetRecord": "asset_record",
            "DatasetSpec": "spec",
            "LicencePolicy": "licences",
            "LockProgress": "lock_report",
            "LockReport": "lock_report",
            "NetworkLimits": "objaverse_files",
            "ObjaverseOptions": "objaverse_source",
            "Support": "asset_record",
            "Surface": "asset_mesh",
            "attribution_markdown": "licences",
            "build_lock": "build",
            "commercial_safe": "licences",
            "find_support": "support_surface",
            "inspect_asset": "inspection",
            "inspect_assets": "inspection",
            "load_asset_mesh": "asset_mesh",
            "load_lock": "lock",
            "load_spec": "spec",
            "lock_hash": "lock",
            "merge_locks": "lock",
            "parse_spec": "spec",
            "preset_names": "spec",
            "same_shape": "lock",
            "usable": "lock",
            "verified_path": "lock",
            "with_overrides": "spec",
            "write_lock": "lock",
        },
    )

__all__ = [
    "AssetFacts",
    "AssetMesh",
    "AssetRecord",
    "DatasetSpec",
    "LicencePolicy",
    "LockProgress",
    "LockReport",
    "NetworkLimits",
    "ObjaverseOptions",
    "Support",
    "Surface",
    "attribution_markdown",
    "build_lock",
    "commercial_safe",
    "find_support",
    "inspect_asset",
    "inspect_assets",
    "load_asset_mesh",
    "load_lock",
    "load_spec",
    "lock_hash",
    "merge_locks",
    "parse_spec",
    "preset_names",
    "same_shape",
    "usable",
    "verified_path",
    "with_overrides",
    "write_lock",
]
