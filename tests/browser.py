"""A headless Chromium for tests and measurements of pages, and what it has to say about them."""

import functools
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE_S = 15.0


@functools.cache
def why_not() -> str:
    """Why no browser can be started here; empty when one can."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "needs playwright: pip install playwright"
    return "" if _executable() else "needs Chromium: apt-get install chromium"


def _executable() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium() -> Iterator[Any]:
    """A running Chromium, as playwright's Browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        # Without the sandbox: Chromium refuses to start one as root, as which containers run.
        browser = driver.chromium.launch(executable_path=_executable(), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def wait_until(page: Any, told: Callable[[], Any], what: str) -> Any:
    """The first answer of `told` that is true. Asked from outside: the page's policy forbids evaluation in it."""
    end = time.monotonic() + PATIENCE_S
    while not (answer := told()):
        assert time.monotonic() < end, f"waited {PATIENCE_S:.0f} s in vain for {what}"
        page.wait_for_timeout(10)
    return answer


def marks(page: Any, name: str) -> list[float]:
    """Times, milliseconds from the start of navigation, at which the page marked `name`."""
    return page.evaluate("(name) => performance.getEntriesByName(name).map((mark) => mark.startTime)", name)
