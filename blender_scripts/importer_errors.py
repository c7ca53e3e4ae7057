"""What Blender's importers and exporters say went wrong. Imports no bpy."""

LONGEST = 300
"""Characters of a line that are kept."""


def what_failed(error: Exception) -> str:
    """The line of an operator's error that says what is wrong: the last one, but for where in Blender it came up.

    An operator written in Python passes its whole traceback on as the text of a `RuntimeError`, and Blender adds a line
    with the place in its own files.
    """
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith("Location:")]
    return said[-1][:LONGEST] if said else type(error).__name__
