"""Setuptools' build backend, whose editable install is also found from a folder that holds one called `randscene`.

Python takes any folder of that name, the clone itself seen from where it lies, for a package without code, unless a
package with code is anywhere on its path; setuptools' own finder, which knows where the rooms are, is asked too late.
So the editable install has a package with code, which leads to that finder.
"""

from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403 -- all other hooks are setuptools' own

LEADS_TO_CLONE = '''"""An editable install: the code is in the clone."""

import importlib.util
import sys

for finder in sys.meta_path:
    if getattr(finder, "__module__", "").startswith("__editable___randscene"):
        spec = finder.find_spec("randscene")
        sys.modules["randscene"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["randscene"])
        break
else:
    raise ImportError("the editable install of randscene is broken; install it again: make setup")
'''


def build_editable(
    wheel_directory: str, config_settings: Any | None = None, metadata_directory: str | None = None
) -> str:
    """The hook of PEP 660: setuptools' wheel, with one more file."""
    name = build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
    path = Path(wheel_directory) / name
    with ZipFile(path) as wheel:
        files = {entry: wheel.read(entry) for entry in wheel.namelist()}
    record = next(entry for entry in files if entry.endswith(".dist-info/RECORD"))
    code = LEADS_TO_CLONE.encode()
    digest = urlsafe_b64encode(sha256(code).digest()).rstrip(b"=").decode()
    # Where the format wants it: last, with a line for the new file.
    listed = files.pop(record).decode() + f"randscene/__init__.py,sha256={digest},{len(code)}\n"
    with ZipFile(path, "w", ZIP_DEFLATED) as wheel:
        for entry, data in {**files, "randscene/__init__.py": code, record: listed.encode()}.items():
            wheel.writestr(entry, data)
    return name
