"""The embedded asset library: parametric families of textured objects, CC0, the same bytes for the same seed."""

from typing import TYPE_CHECKING

from randscene.lazy_names import lazy_names

if TYPE_CHECKING:
    from randscene.manifests.procedural.catalogue import (
        FAMILIES,
        Family,
        ProceduralAsset,
        build_glb,
        build_model,
        enumerate_assets,
    )
    from randscene.manifests.procedural.model import Material, Model, Part, Surface, Texture
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "FAMILIES": "catalogue",
            "Family": "catalogue",
            "ProceduralAsset": "catalogue",
            "build_glb": "catalogue",
            "build_model": "catalogue",
            "enumerate_assets": "catalogue",
            "Material": "model",
            "Model": "model",
            "Part": "model",
            "Surface": "model",
            "Texture": "model",
        },
    )


__all__ = [
    "FAMILIES",
    "Family",
    "Material",
    "Model",
    "Part",
    "ProceduralAsset",
    "Surface",
    "Texture",
    "build_glb",
    "build_model",
    "enumerate_assets",
]
