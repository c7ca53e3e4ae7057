"""The preview page in a browser: it draws, filters, answers the keyboard, and never complains."""

import shutil

import browser
import numpy as np
import pytest
from shard_fixtures import make_dataset

from randscene.shards import open_dataset, preview, preview_pack, write_preview

pytestmark = pytest.mark.skipif(bool(browser.why_not()), reason=browser.why_not())


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as running:
        yield running


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("browser") / "data", scenes=12, views=5, splits=("train", "val"))


@pytest.fixture(scope="module")
def samples(dataset):
    every = open_dataset(dataset, split=None)
    return sorted((every[i] for i in range(len(every))), key=lambda sample: sample.key)


@pytest.fixture(scope="module")
def one_file(dataset, tmp_path_factory):
    return write_preview(dataset, tmp_path_factory.mktemp("page") / "one.html")


@pytest.fixture(scope="module")
def with_packs(dataset, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preview, "ONE_FILE", 0)
        patch.setattr(preview_pack, "PACK_VIEWS", 4)
        return write_preview(dataset, tmp_path_factory.mktemp("page") / "packs.html")


@pytest.fixture
def visit(chromium):
    """Opens a page from the disk; whatever it says on the console or throws fails the test at its end."""
    said, contexts = [], []

    def opened(path, address="", *, size=(1280, 800), scheme="light", mute=False):
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        if not mute:
            page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(path.as_uri() + address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []


def _ready(page, name="thumbnails", more_than=0):
    browser.wait_until(page, lambda: len(browser.marks(page, name)) > more_than, name)


def _text(page, selector):
    return page.locator(selector).inner_text()


def _count(page):
    return int(_text(page, "#count b").replace(",", ""))


def _bright(page, selector):
    """Share of an element's pixels, as the screen shows them, that are not near black."""
    import io

    from PIL import Image

    shot = np.asarray(Image.open(io.BytesIO(page.locator(selector).first.screenshot())).convert("L"))
    return (shot > 40).mean()


@pytest.mark.parametrize("form", ["one_file", "with_packs"])
@pytest.mark.parametrize(("size", "scheme"), [((1280, 800), "light"), ((360, 740), "dark")])
def test_all_pages_draw_without_a_word_on_the_console(visit, request, samples, form, size, scheme):
    page = visit(request.getfixturevalue(form), size=size, scheme=scheme)
    _ready(page)
    assert _count(page) == len(samples)
    assert _bright(page, "#grid .picture") > 0.02
    page.locator("#grid a").first.click()
    _ready(page, "scene")
    assert page.locator("#page-views").is_hidden()
    for panel in (".stage > div", ".cube canvas"):
        assert _bright(page, panel) > 0.02, panel
    first = samples[0]
    assert page.locator(".legend button").count() == page.locator(".plan .foot").count() == first.n_instances
    assert page.locator(".strip button").count() == sum(s.meta["scene"] == 0 for s in samples)
    assert page.locator(".tree").inner_text().count("fields") > 0
    page.locator("#tab-dataset").click()
    assert page.locator(".charts svg").count() == 4
    background = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(246, 245, 242)", "dark": "rgb(16, 18, 22)"}[scheme]


@pytest.mark.parametrize("address", ["", "#scene=0&view=1", "#tab=dataset"])
def test_no_page_is_wider_than_a_narrow_screen(visit, one_file, address):
    page = visit(one_file, address, size=(360, 740))
    _ready(page, "scene" if "scene" in address else "filtered")
    assert page.evaluate("() => document.scrollingElement.scrollWidth") == 360
    assert page.evaluate("() => document.querySelector('#filters').open") is False


def test_filters_pass_the_views_that_the_samples_say(visit, with_packs, samples):
    def seen(sample):
        return min(item["visible_pixels"] / item["unoccluded_pixels"] for item in sample.meta["instances"])

    def stacked(sample):
        return any(item["support_parent"] is not None for item in sample.meta["instances"])

    def holds(sample, kind):
        return any(kind in item["uid"] for item in sample.meta["instances"])

    asked = {
        "#objects=3": lambda sample: sample.n_instances == 3,
        "#objects=2,4": lambda sample: sample.n_instances in (2, 4),
        "#stacked=yes": stacked,
        "#table=no": lambda sample: not stacked(sample),  # here tables are those that carry
        "#seen=60": lambda sample: seen(sample) >= 0.6,
        "#split=val": lambda sample: sample.meta["split"] == "val",
        "#q=cylinder": lambda sample: holds(sample, "cylinder"),
        "#q=BOX+sphere&seen=30&split=train": lambda sample: (
            holds(sample, "box") and holds(sample, "sphere") and seen(sample) >= 0.3 and sample.meta["split"] == "train"
        ),
        "#q=900003": lambda sample: sample.meta["scene"] == 900003,
        "#q=nothing": lambda sample: False,
    }
    page = visit(with_packs)
    for address, passes in asked.items():
        page.evaluate("(address) => { location.hash = address; }", address)
        wanted = sum(map(passes, samples))
        browser.wait_until(page, lambda wanted=wanted: _count(page) == wanted, f"{wanted} views of {address}")
        assert wanted < len(samples) and page.locator("#none").is_hidden() == (wanted > 0)
        # Small lists are on the screen as a whole.
        browser.wait_until(page, lambda wanted=wanted: page.locator("#grid a").count() >= min(wanted, 14), "tiles")
    page.evaluate("() => { location.hash = ''; }")
    browser.wait_until(page, lambda: _count(page) == len(samples), "all views")


def test_the_form_sets_the_filters_and_the_address(visit, one_file, samples):
    page = visit(one_file)
    page.locator(".bars button", has_text="3").click()
    page.locator("input[name=stacked][value=yes]").check()
    page.locator("aside input[type=range]").fill("40")
    page.locator("input[name=split][value=train]").check()
    assert page.evaluate("() => location.hash") == "#objects=3&stacked=yes&seen=40&split=train"
    page.locator("#one").check()
    page.locator("#order").select_option("hidden")
    assert page.evaluate("() => location.hash").endswith("&order=hidden&one=1")
    page.get_by_role("button", name="Clear the filters").click()
    page.locator("#one").uncheck()
    assert page.evaluate("() => location.hash") == "#order=hidden" and _count(page) == len(samples)
    labels = [tile.get_attribute("aria-label") for tile in page.locator("#grid a").all()[:8]]
    shares = [int(label.split("at least ")[1].split(" %")[0]) for label in labels]
    assert shares == sorted(shares) and shares[0] < 60


def test_an_address_brings_back_filter_scene_and_view(visit, with_packs, samples):
    sample = next(sample for sample in samples if sample.meta["scene"] == 900004 and sample.meta["view"] == 2)
    page = visit(with_packs, f"#split=val&objects={sample.n_instances}&scene=900004&view=2")
    _ready(page, "scene")
    assert _text(page, "h2:visible") == "Scene 900004" and "View 002" in _text(page, ".stage figcaption")
    page.locator(".back").click()
    _ready(page)
    assert page.locator("input[name=split][value=val]").is_checked()
    wanted = [s for s in samples if s.meta["split"] == "val" and s.n_instances == sample.n_instances]
    assert _count(page) == len(wanted)
    page.go_back()
    browser.wait_until(page, lambda: page.locator("#page-scene").is_visible(), "the scene again")


def test_captions_say_what_the_frame_did_and_what_hollow_cameras_are(visit, dataset, one_file, tmp_path):
    fewer = write_preview(dataset, tmp_path / "fewer.html", per_scene=2)
    for path, hollow in ((one_file, 0), (fewer, 3)):
        page = visit(path, "#scene=0")
        _ready(page, "scene")
        assert "turned about the vertical until the camera is in front (yaw)" in _text(page, ".cube figcaption")
        assert page.locator(".camera.lost").count() == hollow
        assert ("hollow" in _text(page, ".plan figcaption")) == bool(hollow)


def test_everything_can_be_reached_by_keys(visit, with_packs, samples):
    page = visit(with_packs)
    _ready(page)
    keys = page.keyboard

    def focus():
        return page.evaluate("() => document.activeElement.getAttribute('aria-label') || document.activeElement.id")

    keys.press("/")
    keys.type("900")  # the number of no scene
    assert _count(page) == 0
    for _ in range(3):
        keys.press("Backspace")
    keys.type("sphere")
    assert 0 < _count(page) < len(samples)
    keys.press("Enter")
    assert "Scene" in (first := focus())
    keys.press("ArrowRight")
    assert focus() != first
    keys.press("ArrowLeft")
    keys.press("ArrowDown")
    keys.press("ArrowUp")
    assert focus() == first
    keys.press("End")
    assert page.evaluate("() => document.activeElement.getAttribute('aria-posinset')") == str(_count(page))
    keys.press("Home")
    keys.press("Enter")
    _ready(page, "scene")
    title, caption = _text(page, "h2:visible"), _text(page, ".stage figcaption")
    keys.press("ArrowRight")
    _ready(page, "scene", 1)
    assert _text(page, "h2:visible") == title and _text(page, ".stage figcaption") != caption
    keys.press("1")
    assert page.locator(".legend [aria-pressed=true]").count() == 1
    keys.press("1")
    assert page.locator(".legend [aria-pressed=true]").count() == 0
    keys.press("i")
    assert page.locator(".slider input").input_value() == "0"
    keys.press("i")
    keys.press("n")
    browser.wait_until(page, lambda: _text(page, "h2:visible") != title, "the next scene")
    keys.press("p")
    browser.wait_until(page, lambda: _text(page, "h2:visible") == title, "the scene before")
    keys.press("Escape")
    assert page.locator("#page-views").is_visible() and focus().startswith(f"Scene {int(title.split()[1])},")
    keys.press("?")
    assert page.locator("#help").is_visible()
    keys.press("Escape")
    assert page.locator("#help").is_hidden() and page.locator("#page-views").is_visible()
    keys.press("t")
    assert page.evaluate("() => document.documentElement.dataset.theme") == "dark"


def test_the_tab_key_finds_the_views_and_shows_where_it_is(visit, one_file):
    page = visit(one_file)
    _ready(page)
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.matches('#grid a')"):
            break
    outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
    assert page.evaluate("() => document.activeElement.matches('#grid a')") and outline == "solid"
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("() => document.activeElement.id") == "one"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_what_is_behind_them(visit, one_file, scheme):
    page = visit(one_file, scheme=scheme)
    names = ("--ink", "--soft", "--accent", "--key", "--number", "--text", "--paper", "--card")
    colours = page.evaluate(
        "(names) => { const style = getComputedStyle(document.documentElement);"
        " return names.map((name) => style.getPropertyValue(name).trim()); }",
        list(names),
    )

    def brightness(colour):
        parts = np.array(list(bytes.fromhex(colour.strip("#")))) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return linear @ (0.2126, 0.7152, 0.0722)

    *words, paper, card = map(brightness, colours)
    for name, word in zip(names, words):
        for behind in (paper, card):
            low, high = sorted((word, behind))
            assert (high + 0.05) / (low + 0.05) >= 4.5, f"{name} is hard to read in {scheme}"


def test_only_what_is_near_the_window_exists_and_is_loaded(visit, with_packs, samples):
    asked = []
    page = visit(with_packs, size=(420, 500), mute=True)
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    page.reload()
    _ready(page)
    packs = len(list(with_packs.with_name("packs_files").glob("*.js")))
    assert page.locator("#grid a").count() < len(samples) / 2
    thumbs = [name for name in asked if name.endswith(".webp")]
    assert 0 < len(thumbs) < packs / 2 and not [name for name in asked if name.endswith(".js") or "-p" in name]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("End")
    _ready(page, more_than=1)
    assert page.evaluate("() => document.activeElement.getAttribute('aria-posinset')") == str(len(samples))
    assert page.locator("#grid a").count() < len(samples) / 2
    page.keyboard.press("Enter")
    _ready(page, "scene")
    assert len([name for name in asked if name.endswith(".js")]) == 1


def test_a_file_that_is_missing_beside_the_page_is_named(visit, with_packs, tmp_path):
    shutil.copytree(with_packs.parent, tmp_path / "copy")
    for file in (tmp_path / "copy" / "packs_files").glob("000000_*"):
        file.unlink()
    page = visit(tmp_path / "copy" / "packs.html", "#scene=0", mute=True)
    browser.wait_until(page, lambda: "is missing beside this page" in _text(page, ".scene-head .soft"), "the reason")
    page.keyboard.press("Escape")
    page.evaluate("() => { location.hash = '#scene=900000'; }")
    _ready(page, "scene")
    assert page.locator(".legend button").count() >= 2


def test_words_of_a_dataset_are_never_run(visit, dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "data")
    uid = open_dataset(copy, split=None)[0].meta["instances"][0]["uid"]
    evil = "<img src=x onerror='document.title=1'>"
    (copy / "assets.lock.jsonl").write_text(f'{{"uid": "{uid}", "category": "{evil}"}}\n')
    recipes = (copy / "recipes.jsonl").read_text().replace(f'"uid":"{uid}"', f'"uid":"{evil}"')
    (copy / "recipes.jsonl").write_text(recipes)
    page = visit(write_preview(copy), f"#q={evil[:5]}&scene=0")
    _ready(page, "scene")
    assert evil in _text(page, ".legend") and page.locator("img").count() == 0
    page.locator(".tree summary", has_text="instances").click()
    page.locator(".tree details details details > summary").first.click()
    browser.wait_until(page, lambda: evil in _text(page, ".tree"), "the name in the recipe")
    assert page.locator("img").count() == 0 and page.title().endswith("randscene")
