"""The pages as a site: it builds without warning or network, links lead somewhere, nothing comes from elsewhere."""

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import browser
import pytest
import yaml
from docs_pages import PAGES, ROOT, read

pytest.importorskip("mkdocs", reason="needs the extra `docs`")


class Page(HTMLParser):
    """What a built page refers to, its anchors, and its text outside of code."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.images: list[dict[str, str | None]] = []
        self.words: list[str] = []
        self._code = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.anchors |= {value for value in (named.get("id"), named.get("name")) if value}
        self._code += tag in ("code", "pre", "script", "style")
        if tag == "a" and named.get("href") is not None:
            self.links.append(str(named["href"]))
        if tag == "img":
            self.images.append(named)
            self.loads.append(str(named["src"]))
        if tag in ("script", "iframe") and named.get("src"):
            self.loads.append(str(named["src"]))
        if tag == "link" and named.get("rel") not in ("canonical", "next", "prev"):
            self.loads.append(str(named["href"]))

    def handle_endtag(self, tag: str) -> None:
        self._code -= tag in ("code", "pre", "script", "style")

    def handle_data(self, data: str) -> None:
        if not self._code:
            self.words.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built site. `strict`: a page, link or anchor that is not there ends the build."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    # A proxy where nothing listens: whoever asks the network fails at once.
    dead = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **dead, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    found = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(found) >= len(PAGES) - 1
    return found


def test_every_link_of_the_site_leads_to_a_page_and_a_place_on_it(site, pages):
    wrong, inner = [], 0
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            inner += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() and (target / "index.html").exists() else target
            if not target.exists():
                wrong.append(f"{path.relative_to(site)}: {link}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                wrong.append(f"{path.relative_to(site)}: no such place: {link}")
    assert not wrong, "\n".join(wrong)
    assert inner > 500


def test_pictures_are_there_and_say_what_they_show(site, pages):
    found = [(path, image) for path, page in pages.items() for image in page.images]
    for path, image in found:
        assert (image.get("alt") or "").strip(), f"{path.relative_to(site)}: {image['src']} has no alternative text"
        assert (path.parent / str(image["src"])).exists(), image["src"]
    assert len(found) >= 6


def test_nothing_on_the_site_comes_from_another_server(site, pages):
    for path, page in pages.items():
        for load in page.loads:
            assert not urlsplit(load).netloc, f"{path.relative_to(site)}: {load}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(https?:)?//", style.read_text()), style.name


def test_tables_and_lists_are_rendered_as_such(site, pages):
    for path, page in pages.items():
        for text in page.words:
            bad = re.search(r"\|\s*:?-{3,}|\n[*-] |^```", text)
            assert bad is None, f"{path.relative_to(site)}: Markdown that was not understood: {text[:80]!r}"


@pytest.mark.skipif(bool(browser.why_not()), reason=browser.why_not())
def test_names_in_tables_stay_whole_and_only_tables_and_drawings_scroll(site):
    """A name that is broken in a narrow cell reads as two; a page that scrolls sideways cannot be read on a phone.
    On a screen no table scrolls either."""
    found = 0
    with browser.chromium() as running:
        for width in (360, 1280):
            page = running.new_page(viewport={"width": width, "height": 800})
            for name in ("index", "evaluation", "sample_format", "troubleshooting"):
                page.goto((site / f"{name}.html").as_uri())
                assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} at {width} pixels"
                lines = page.eval_on_selector_all("td code", "all => all.map(code => code.getClientRects().length)")
                assert set(lines) == {1}, f"{name} at {width} pixels"
                found += len(lines)
                fit = "all => all.length > 0 && all.every(one => one.scrollWidth <= one.clientWidth)"
                still = page.eval_on_selector_all(".md-typeset__scrollwrap", fit)
                assert width < 1280 or still, f"{name} has a table that scrolls at {width} pixels"
    assert found > 200


def test_every_page_is_in_the_navigation():
    def leaves(node: object) -> Iterator[str]:
        if isinstance(node, str):
            yield node
        else:
            for below in node.values() if isinstance(node, dict) else node:
                yield from leaves(below)

    told = set(leaves(yaml.safe_load(read("mkdocs.yml"))["nav"]))
    assert told == {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")}


def links(page: str) -> list[str]:
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", read(page), flags=re.M | re.S)
    return [*re.findall(r"\]\(([^)\s]+)\)", prose), *re.findall(r"(?:href|src)=\"([^\"]+)\"", prose)]


def slugs(page: str) -> set[str]:
    """Anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", read(page), flags=re.M | re.S), re.M)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_work_where_the_files_lie(page):
    """As the repository shows them, without the site: the README above all."""
    for link in links(page):
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme in ("https", "mailto"), link
            assert parts.scheme == "mailto" or re.fullmatch(r"[\w-]+(\.[\w-]+)+(:\d+)?", parts.netloc), link
            continue
        target = (ROOT / page).parent / unquote(parts.path) if parts.path else ROOT / page
        assert target.exists(), f"{page}: {link}"
        if parts.fragment:
            assert unquote(parts.fragment) in slugs(os.path.relpath(target, ROOT)), f"{page}: no such place: {link}"


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_exist(page):
    """`docs/x.md`, `tests/y.py`, `generator/z.py` and other names in inline code that look like ours."""
    prose = re.sub(r"^```.*?^```$", "", read(page), flags=re.M | re.S)
    rooms = "benchmarks|blender_scripts|cli|core|docs|generator|manifests|shards|tests|train"
    for name in re.findall(rf"`((?:{rooms})/[\w./-]+\.(?:py|md|yaml|png|svg))`", prose):
        assert (ROOT / name).exists(), f"{page}: {name}"


def test_drawings_are_whole_have_a_title_and_a_dark_form():
    found = list((ROOT / "docs/figures").glob("*.svg"))
    assert len(found) >= 2
    for path in found:
        tree = ET.fromstring(path.read_text(encoding="utf-8"))
        assert tree.find("{http://www.w3.org/2000/svg}title") is not None, path.name
        assert "prefers-color-scheme: dark" in path.read_text(encoding="utf-8"), path.name
        assert "http" not in re.sub(r'xmlns="[^"]*"', "", path.read_text(encoding="utf-8")), path.name
