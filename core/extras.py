"""The extras of this package, and how each is installed beside what is here."""

import importlib.metadata
import json
from urllib.parse import unquote, urlsplit

EXTRAS = ("generate", "train", "hub", "remote", "flash")
"""Those that the code asks for by name."""


def install_command(extra: str = "", *, again: bool = False) -> str:
    """The shell command that adds an extra to this installation, or that installs this package itself.

    It names the place that this package was installed from, as pip has noted it (PEP 610): a folder, a file or a
    repository; only what came from an index is asked for there by its name.

    Parameters
    ----------
    extra : str
        Such as `train`; several with commas between; none for the package alone.
    again : bool
        Whether what is there already shall be replaced.
    """
    return f"pip install {'--force-reinstall ' if again else ''}{_place(f'[{extra}]' if extra else '')}"


def _place(extras: str) -> str:
    found = [one.read_text("direct_url.json") for one in importlib.metadata.distributions(name="randscene")]
    if not found:
        return f"-e '.{extras}'"  # the code was put on the path by hand
    # In a clone's own folder a left-over of its build may be found first, which notes nothing.
    origin = json.loads(next(filter(None, found), "{}"))
    url = origin.get("url", "")
    if "dir_info" in origin:
        editable = "-e " if origin["dir_info"].get("editable") else ""
        return f"{editable}'{unquote(urlsplit(url).path)}{extras}'"
    if not url:
        return f"'randscene{extras}'"
    kind = origin.get("vcs_info", {}).get("vcs")
    return f"'randscene{extras} @ {f'{kind}+' if kind else ''}{url}'"
