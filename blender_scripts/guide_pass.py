"""The guide: a render pass that holds the base colour of what a pixel's samples met."""

from typing import Any

PASS = "guide"


def show_base_colors(mesh: Any) -> None:
    """Let each material of a mesh (bpy.types.Mesh) write its base colour, times its alpha, to the guide pass.

    A material without a Principled BSDF writes white. Doing it twice is doing it once.
    """
    for material in mesh.materials:
        if material is None or material.node_tree is None:
            continue
        nodes, links = material.node_tree.nodes, material.node_tree.links
        if any(node.type == "OUTPUT_AOV" and node.aov_name == PASS for node in nodes):
            continue
        out = nodes.new("ShaderNodeOutputAOV")
        out.aov_name = PASS
        shader = next((node for node in nodes if node.type == "BSDF_PRINCIPLED"), None)
        if shader is None:
            out.inputs["Color"].default_value = (1.0, 1.0, 1.0, 1.0)
            continue
        alpha = shader.inputs["Alpha"]
        color = shader.inputs["Base Color"]
        if not alpha.links and alpha.default_value == 1.0:
            _feed(links, color, out.inputs["Color"])
            continue
        # What lies behind a hole adds its own colour to the same pixel.
        product = nodes.new("ShaderNodeVectorMath")
        product.operation = "SCALE"
        _feed(links, color, product.inputs["Vector"])
        _feed(links, alpha, product.inputs["Scale"])
        links.new(product.outputs["Vector"], out.inputs["Color"])


def add_guide_pass(layer: Any) -> None:
    """Make a view layer (bpy.types.ViewLayer) keep the pass."""
    if PASS not in layer.aovs:
        item = layer.aovs.add()
        item.name, item.type = PASS, "COLOR"


def _feed(links: Any, source: Any, target: Any) -> None:
    """Give one node's input to another: its link, or else its value."""
    if source.links:
        links.new(source.links[0].from_socket, target)
        return
    value = source.default_value
    if isinstance(value, float):
        target.default_value = value
    else:
        target.default_value = tuple(value)[: len(target.default_value)]
