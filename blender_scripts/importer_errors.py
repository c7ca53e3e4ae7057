"""What Blender's importers and exporters say went wrong. Imports no bpy."""

import errno
import os

_NO_ROOM = {
    os.strerror(errno.ENOSPC): "the disk is full",
    os.strerror(errno.EDQUOT): "the disk quota is used up",
    "No usable temporary directory": "there is no room for temporary files",
}
"""What the system and Python say, Blender's own messages included, where a disk takes no more."""
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


def no_room(said: str, where: str | os.PathLike[str]) -> str | None:
    """The line for people if what a program said tells of a full disk, else None: no file is to blame for that.

    Parameters
    ----------
    said : str
        An error's text, or what a process printed last.
    where : path
        What was being written.
    """
    why = next((why for words, why in _NO_ROOM.items() if words in said), None)
    return why and f"cannot write {os.fspath(where)}: {why}; free some space, then run the same command again"
