"""Planning, labels, view-centric voxels and the build pipeline. Names are loaded on first use."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from randscene.generator.build import BuildReport, generate
    from randscene.generator.layout_report import LayoutReport
    from randscene.generator.planning import plan
    from randscene.generator.recipe import SceneRecipe, recipe_from_json
    from randscene.generator.verification import verify
    from randscene.generator.view_centric import world_to_view
    from randscene.generator.voxelization import voxelize

_HOME = {
    "BuildReport": "build",
    "LayoutReport": "layout_report",
    "SceneRecipe": "recipe",
    "generate": "build",
    "plan": "planning",
    "recipe_from_json": "recipe",
    "verify": "verification",
    "voxelize": "voxelization",
    "world_to_view": "view_centric",
}
__all__ = [
    "BuildReport",
    "LayoutReport",
    "SceneRecipe",
    "generate",
    "plan",
    "recipe_from_json",
    "verify",
    "voxelize",
    "world_to_view",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
