"""What a proxy answers while the service restarts is not the service's word on a review."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, Route, expect

from tests.integration.chromium import IN_CHROMIUM
from tests.integration.review_desk import Desk, saved, shown
from tests.integration.reviewing import KEY, Reviewing
from tests.integration.server import until

pytestmark = IN_CHROMIUM


class Proxy:
    """Stands between, and answers by itself while the service is away."""

    def __init__(self, page: Page, paths: str = "", status: int = 404) -> None:
        self.away = False
        self._status = status
        page.route(f"**/v1/review/{paths}**", self._pass)

    def _pass(self, route: Route) -> None:
        if self.away:
            route.fulfill(status=self._status, content_type="text/plain", body="not found\n")
        else:
            route.continue_()


@pytest.mark.parametrize("status", [403, 404, 408, 422])
def test_what_was_said_meanwhile_is_saved_after(desk: Desk, held: Reviewing, status: int) -> None:
    first, second, *_ = held.refill(8)
    page = desk.page()
    proxy = Proxy(page, status=status)
    shown(page, first)
    fetched = "() => performance.getEntriesByType('resource').filter(e => /photos/.test(e.name))"
    until(lambda: len(page.evaluate(fetched)) > 3, "the next photos")
    proxy.away = True
    page.keyboard.press("1")
    shown(page, second)
    expect(page.get_by_role("alert")).to_contain_text("Not saved yet: 1")
    page.keyboard.press("2")
    expect(page.get_by_role("alert")).to_contain_text("Not saved yet: 2")
    proxy.away = False
    saved(page, held, {first: "recyclable", second: "residual"})
    expect(page.get_by_role("alert")).to_be_hidden()


def test_the_next_photos_come_when_the_service_is_back(desk: Desk, held: Reviewing) -> None:
    *_, last = held.refill(6)
    page = desk.page()
    proxy = Proxy(page)
    shown(page)
    proxy.away = True
    for _ in range(4):  # that are here already
        page.keyboard.press("s")
    expect(page.locator("#work")).to_be_hidden()
    expect(page.get_by_role("alert")).to_contain_text("Trying again")
    proxy.away = False
    assert shown(page) > last - 2
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_photo_that_a_proxy_does_not_find_is_not_passed_over(desk: Desk, held: Reviewing) -> None:
    first, second = held.refill(2)
    page = desk.page(reviewer=None)
    proxy = Proxy(page, "photos/")
    proxy.away = True
    page.get_by_label("Your name").fill("anna")
    page.get_by_label("Reviewer key").fill(KEY)
    page.keyboard.press("Enter")
    expect(page.locator("#no-photo")).to_contain_text("Trying again")
    proxy.away = False
    shown(page, first)
    page.keyboard.press("1")
    shown(page, second)
    saved(page, held, {first: "recyclable"})
