"""A real browser for the tests of pages: Debian's Chromium, driven by Playwright, with axe to judge what it shows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = (
    os.environ.get("GANGPLAN_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
)
"""Where the browser is; `scripts/chromium.sh` installs it."""

PATIENCE_MS = 120_000.0
"""How long a step may take on a very busy machine: a report is read by a server that has only just started."""


@contextmanager
def chromium() -> Generator[Browser]:
    """Open the browser; a machine without it, or without Playwright, skips the test by name."""
    driver = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if not CHROMIUM:
        pytest.skip("Chromium is not installed: scripts/chromium.sh does it")
    with driver.sync_playwright() as playwright:
        # Root in a container has no sandbox; the pages are our own.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


def new_page(browser: Browser, **look: Any) -> Page:
    """Return a new page in a context of its own, as `look` says; what goes wrong in its scripts fails the test."""
    page = browser.new_context(viewport={"width": 1440, "height": 900}, **look).new_page()
    page.set_default_timeout(PATIENCE_MS)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("close", lambda _: None)
    page.wrong = wrong  # type: ignore[attr-defined]
    return page


def violations(page: Page) -> list[str]:
    """Return what axe finds wrong for people who cannot see well, hear well or use a mouse."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    found = axe.Axe().run(page).response["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found]
