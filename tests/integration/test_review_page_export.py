"""An export of the review page, however long it takes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue

import pytest
from playwright.sync_api import Page, expect

from tests.integration.chromium import IN_CHROMIUM
from tests.integration.review_desk import Desk, shown
from tests.integration.reviewing import Reviewing

pytestmark = IN_CHROMIUM

PART = bytes(1_000_000)
# A timeout of the browser's own goes by the page's clock, which stands still here.
BY_THE_CLOCK = """() => {
    AbortSignal.timeout = (ms) => {
        const end = new AbortController();
        setTimeout(() => end.abort(new DOMException("signal timed out", "TimeoutError")), ms);
        return end.signal;
    };
}"""


@dataclass
class Slow:
    """Gives an export in parts, each of them when it is told to; None is the end."""

    url: str
    parts: SimpleQueue[bytes | None]


@pytest.fixture
def slow() -> Iterator[Slow]:
    parts: SimpleQueue[bytes | None] = SimpleQueue()

    class Export(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/zip")
            self.end_headers()
            while (part := parts.get()) is not None:
                self.wfile.write(part)

        def log_message(self, *words: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Export)
    threading.Thread(target=server.serve_forever).start()
    yield Slow(f"http://127.0.0.1:{server.server_port}/", parts)
    parts.put(None)  # for whoever reads on
    server.shutdown()
    server.server_close()


def begin(page: Page, slow: Slow) -> None:
    page.route("**/export.zip", lambda route: route.continue_(url=slow.url))
    page.get_by_text("Agreement, export, keys").click()
    page.clock.install(time=0)
    page.clock.pause_at(1)
    page.evaluate(BY_THE_CLOCK)
    page.get_by_role("button", name="photos (ZIP)").click()
    slow.parts.put(PART)
    expect(page.locator("#coming")).to_have_text("reviewed.zip: 1.0 MB so far…")


def test_an_export_may_take_longer_than_any_answer(
    desk: Desk, held: Reviewing, slow: Slow, tmp_path: Path
) -> None:
    held.refill(1)
    page = desk.page()
    shown(page)
    begin(page, slow)
    for megabytes in (2, 3, 4):
        page.clock.fast_forward(20_000)
        slow.parts.put(PART)
        expect(page.locator("#coming")).to_have_text(f"reviewed.zip: {megabytes}.0 MB so far…")
    with page.expect_download() as download:
        slow.parts.put(None)
    download.value.save_as(tmp_path / "reviewed.zip")
    assert (tmp_path / "reviewed.zip").stat().st_size == 4 * len(PART)
    expect(page.locator("#exported")).to_have_text("reviewed.zip is here.")
    expect(page.locator("#coming")).to_have_text("")


def test_an_export_of_which_nothing_comes_any_more_is_given_up(
    desk: Desk, held: Reviewing, slow: Slow
) -> None:
    held.refill(1)
    page = desk.page()
    shown(page)
    begin(page, slow)
    page.clock.fast_forward(31_000)
    told = "No export: nothing came for 30 seconds"
    expect(page.get_by_role("alert")).to_have_text(told)
    expect(page.locator("#coming")).to_have_text("")
