"""One server for all tests that do not need one of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from tests.integration.chromium import ARGUMENTS, CHROMIUM
from tests.integration.review_desk import Desk
from tests.integration.reviewing import Reviewing, reviewing
from tests.integration.server import Server, running


@pytest.fixture(scope="session")
def server(models_dir: Path) -> Iterator[Server]:
    """With the default settings."""
    with running(models_dir) as server:
        yield server


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[httpx.Client]:
    """Speaks to `server`."""
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def held(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reviewing]:
    with reviewing(models_dir, tmp_path_factory.mktemp("page")) as found:
        yield found


@pytest.fixture
def opened(browser: Browser) -> Iterator[list[BrowserContext]]:
    """Contexts that are closed in the end."""
    contexts: list[BrowserContext] = []
    yield contexts
    for context in contexts:
        context.close()


@pytest.fixture
def errors() -> Iterator[list[str]]:
    """What pages complain of, which is nothing."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def desk(
    browser: Browser, held: Reviewing, opened: list[BrowserContext], errors: list[str]
) -> Desk:
    return Desk(browser, held, opened, errors)
