"""What the service refuses of a reviewer's words comes back before them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.integration.chromium import IN_CHROMIUM
from tests.integration.review_desk import Desk, saved, shown
from tests.integration.reviewing import CLIENT, Reviewing, reviewing
from tests.integration.server import until
from tests.review_stores import new_photo
from tests.tiny_site import TINY, write_site

pytestmark = IN_CHROMIUM

NO_KIND = "wood/metal"


def say_kind(page: Page, kind: str) -> None:
    page.locator("#kind").fill(kind)
    page.keyboard.press("Enter")


def test_nothing_is_sent_of_a_kind_that_is_none(desk: Desk, held: Reviewing) -> None:
    first, second = held.refill(2)
    page = desk.page()
    shown(page, first)
    say_kind(page, NO_KIND)
    expect(page.locator("#kind-note")).to_contain_text("No kind: letters, digits")
    page.keyboard.press("1")
    expect(page.get_by_role("alert")).to_have_text(
        f"Nothing was sent: “{NO_KIND}” is no kind. Change it, or empty the field."
    )
    expect(page.locator("#kind")).to_be_focused()
    assert shown(page) == first
    say_kind(page, "wood and metal")
    page.keyboard.press("1")
    shown(page, second)
    expect(page.get_by_role("alert")).to_be_hidden()
    saved(page, held, {first: "recyclable"})


def test_a_photo_whose_verdict_was_refused_comes_back(desk: Desk, held: Reviewing) -> None:
    first, second, third = held.refill(3)
    page = desk.page()
    shown(page, first)
    page.route("**/kind?*", lambda route: route.abort())  # what it would say comes too late
    say_kind(page, NO_KIND)
    page.keyboard.press("1")
    shown(page, first)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("One review was not saved: subclass: expected letters")
    expect(alert).to_contain_text("The photo is here once more.")
    expect(page.locator("#progress")).to_have_text("3 left · 0 done · 0 today")
    expect(page.locator("#undo")).to_have_attribute("aria-disabled", "true")
    expect(page.locator("#kind")).to_have_value(NO_KIND)
    assert NO_KIND not in page.locator("#kinds option").evaluate_all("all => all.map(o => o.value)")
    page.keyboard.press("g")  # no word
    expect(alert).to_be_visible()
    say_kind(page, "")
    page.keyboard.press("2")
    shown(page, second)
    expect(alert).to_be_hidden()
    page.keyboard.press("3")
    shown(page, third)
    saved(page, held, {first: "residual", second: "organic"})


def test_the_last_photo_comes_back_too(desk: Desk, held: Reviewing) -> None:
    (first,) = held.refill(1)
    page = desk.page()
    shown(page, first)
    page.route("**/kind?*", lambda route: route.abort())
    say_kind(page, NO_KIND)
    page.keyboard.press("1")
    shown(page, first)
    expect(page.get_by_role("alert")).to_contain_text("One review was not saved")
    expect(page.locator("#rest")).to_be_hidden()


def test_whoever_types_meanwhile_keeps_their_photo(desk: Desk, held: Reviewing) -> None:
    first, second, third = held.refill(3)
    page = desk.page()
    shown(page, first)
    waiting: list[Route] = []
    page.route("**/kind?*", lambda route: route.abort())
    page.route("**/verdict", lambda route: waiting.append(route))
    say_kind(page, NO_KIND)
    page.keyboard.press("1")
    shown(page, second)
    page.keyboard.press("k")
    page.keyboard.type("tea ")
    until(lambda: waiting or page.evaluate("0"), "the verdict to be sent")
    page.unroute("**/verdict")
    waiting[0].continue_()
    expect(page.get_by_role("alert")).to_contain_text("One review was not saved")
    assert shown(page) == second
    page.keyboard.type("bag")
    page.keyboard.press("Enter")
    page.keyboard.press("3")
    shown(page, first)
    say_kind(page, "")
    page.keyboard.press("1")
    shown(page, third)
    saved(page, held, {first: "recyclable", second: "organic"})
    (vote,) = [one.subclass for one in held.store.reviewed() if one.photo.id == second]
    assert vote == "tea bag"


@pytest.fixture
def sites(tmp_path: Path) -> Path:
    (tmp_path / "sites").mkdir()
    write_site(tmp_path / "sites")
    return tmp_path / "sites"


RENAMED: dict[str, Any] = {
    "version": "2",
    "bins": {"paper": TINY["bins"]["mixed"], "rest": TINY["bins"]["rest"]},
    "superclasses": TINY["superclasses"] | {"recyclable": "paper"},
    "costs.of": {},
}


def test_a_sites_file_that_changes_meanwhile_gives_its_photos_the_bins_of_now(
    browser: Browser,
    models_dir: Path,
    tmp_path: Path,
    sites: Path,
    opened: list[BrowserContext],
    errors: list[str],
) -> None:
    with reviewing(models_dir, tmp_path, sites_dir=sites, watch_s=0.1) as held:
        first, second = [held.store.add(new_photo(seed, site="tiny")).id for seed in (1, 2)]
        page = Desk(browser, held, opened, errors).page()
        shown(page, first)
        write_site(sites, RENAMED)

        def in_force() -> bool:
            answer = httpx.get(f"{held.server.url}/v1/sites", headers={"x-api-key": CLIENT})
            return "2" in [one["version"] for one in answer.json()["sites"]]

        until(in_force, "the new rules")
        page.keyboard.press("1")
        expect(page.get_by_role("alert")).to_contain_text("One review was not saved: bin")
        shown(page, first)
        page.keyboard.press("1")
        shown(page, second)
        saved(page, held, {first: "recyclable"})
        (kept,) = held.store.reviewed()
        assert kept.votes[0].verdict.bin == "paper"
        opened[0].close()
