"""Names that differ between Blender 4.5 and 5.0, and settings that must exist."""

from typing import Any

import bpy


def blender_version() -> str:
    """`4.5.15`, without Blender's suffixes."""
    return ".".join(str(part) for part in bpy.app.version)


def object_index_pass() -> str:
    """Name of Cycles' object index pass."""
    return "Object Index" if bpy.app.version >= (5, 0, 0) else "IndexOB"


def eevee_engine() -> str:
    """Identifier of EEVEE (the rasteriser that came with Blender 4.2)."""
    return "BLENDER_EEVEE" if bpy.app.version >= (5, 0, 0) else "BLENDER_EEVEE_NEXT"


def enable_nodes(owner: Any) -> None:
    """Give a world or material its node tree; from 5.0 on it always has one and the switch is deprecated."""
    if bpy.app.version < (5, 0, 0):
        owner.use_nodes = True


def apply_settings(owner: Any, **settings: Any) -> None:
    """Set properties of a Blender struct.

    Blender 4.5 accepts misspelt Cycles properties in silence; here they are refused.

    Raises
    ------
    AttributeError
        If the struct has no such property.
    """
    for name, value in settings.items():
        if name not in owner.bl_rna.properties:
            raise AttributeError(f"Blender {blender_version()}: {owner.bl_rna.identifier} has no property {name}")
        setattr(owner, name, value)
