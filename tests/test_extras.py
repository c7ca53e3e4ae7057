"""The command that adds an extra is right for the place that the package was installed from."""

import importlib.metadata
import json

import pytest

from randscene.extras import EXTRAS, install_command

PLACES = {
    "a clone": ({"url": "file:///a%20b/clone", "dir_info": {"editable": True}}, "-e '/a b/clone[train]'"),
    "a folder": ({"url": "file:///here", "dir_info": {}}, "'/here[train]'"),
    "a wheel": ({"url": "file:///x/a.whl", "archive_info": {}}, "'randscene[train] @ file:///x/a.whl'"),
    "a repository": (
        {"url": "https://x/a.git", "vcs_info": {"vcs": "git"}},
        "'randscene[train] @ git+https://x/a.git'",
    ),
    "an index": (None, "'randscene[train]'"),
}


class _Installed:
    def __init__(self, origin: dict | None) -> None:
        self.origin = origin

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return None if self.origin is None else json.dumps(self.origin)


@pytest.mark.parametrize("place", PLACES)
def test_an_extra_is_asked_for_where_the_package_came_from(place, monkeypatch):
    origin, words = PLACES[place]
    found = [_Installed(None), _Installed(origin)]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda name: found)
    assert install_command("train") == f"pip install {words}"


def test_the_package_itself_is_installed_again_from_where_it_came(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "distributions", lambda name: [_Installed(PLACES["a clone"][0])])
    assert install_command(again=True) == "pip install --force-reinstall -e '/a b/clone'"


def test_code_that_was_not_installed_is_installed_from_its_folder(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "distributions", lambda name: [])
    assert install_command("hub") == "pip install -e '.[hub]'"


def test_every_extra_that_the_code_asks_for_is_one_of_the_package():
    assert set(EXTRAS) <= set(importlib.metadata.metadata("randscene").get_all("Provides-Extra"))
