"""Planning, labels, view-centric voxels and the build pipeline. Names are loaded on first use."""

from typing import TYPE_CHECKING

from randscene.lazy_names import lazy_names

if TYPE_CHECKING:
    from randscene.generator.build import BuildReport, generate
    from randscene.generator.estimate_build import estimate
    from randscene.generator.estimate_total import Estimate
    from randscene.generator.front3d_import import ImportReport, import_3dfront
    from randscene.generator.layout_report import LayoutReport
    from randscene.generator.planning import plan
    from randscene.generator.recipe import SceneRecipe, recipe_from_json
    from randscene.generator.verification import verify
    from randscene.generator.view_centric import world_to_view
    from randscene.generator.voxelization import voxelize
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "BuildReport": "build",
            "Estimate": "estimate_total",
            "ImportReport": "front3d_import",
            "LayoutReport": "layout_report",
            "SceneRecipe": "recipe",
            "estimate": "estimate_build",
            "generate": "build",
            "import_3dfront": "front3d_import",
            "plan": "planning",
            "recipe_from_json": "recipe",
            "verify": "verification",
            "voxelize": "voxelization",
            "world_to_view": "view_centric",
        },
    )

__all__ = [
    "BuildReport",
    "Estimate",
    "ImportReport",
    "LayoutReport",
    "SceneRecipe",
    "estimate",
    "generate",
    "import_3dfront",
    "plan",
    "recipe_from_json",
    "verify",
    "voxelize",
    "world_to_view",
]
