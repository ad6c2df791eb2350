"""A real Chromium, headless; without one, or without playwright, its tests are skipped."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = (
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Heard:
    """What a page said and asked for while it was open."""

    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """The browser, started once."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no chromium and no chrome is installed")
    with playwright.sync_playwright() as driver:
        # Containers seldom allow its sandbox; the pages are our own.
        chromium = driver.chromium.launch(
            executable_path=program, args=list(QUIET), chromium_sandbox=False
        )
        yield chromium
        chromium.close()


class Opener:
    """Opens files in pages of their own."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser

    @contextmanager
    def __call__(self, path: Path, ready: bool = True, **settings: Any) -> Iterator[Any]:
        """Give a page and what it said; it must have been quiet and asked for nothing."""
        context = self.browser.new_context(**settings)
        page, heard = context.new_page(), Heard()
        page.on("pageerror", lambda error: heard.errors.append(str(error)))
        page.on("console", lambda said: _listen(said, heard))
        page.on("request", lambda request: _note(request.url, heard))
        page.on("dialog", lambda dialog: heard.errors.append(f"dialog: {dialog.message}"))
        page.goto(path.as_uri())
        if ready:
            page.wait_for_selector("html[data-ready]", timeout=20_000)
        yield page
        assert heard.errors == []
        assert heard.requests == [path.as_uri()]
        context.close()


def _listen(said: Any, heard: Heard) -> None:
    if said.type in ("error", "warning"):
        heard.errors.append(said.text)


def _note(url: str, heard: Heard) -> None:
    if not url.startswith(("data:", "blob:")):
        heard.requests.append(url)


@pytest.fixture(scope="session")
def show(browser: Any) -> Opener:
    """Open a file: ``with show(path, color_scheme="dark") as page``."""
    return Opener(browser)
