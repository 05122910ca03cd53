"""The review page with the bins of a photo's site."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from service.review.records import Verdict
from tests.integration.chromium import DESK, IN_CHROMIUM, PHONE
from tests.integration.review_desk import Desk, check_contrast, saved, shown
from tests.integration.reviewing import Reviewing, reviewing
from tests.integration.server import until
from tests.review_stores import new_photo
from tests.tiny_site import TINY, write_site

pytestmark = IN_CHROMIUM


BOX = {"colour": "#6a1b9a", "name": {"en": "Battery box", "de": "Kiste"}, "text": TINY["name"]}
WITH_BOX = {"bins": TINY["bins"] | {"box": BOX}, "items": {"battery": "box", "lamp": "box"}}


@pytest.fixture(scope="module")
def sited(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reviewing]:
    """With a site `tiny` whose battery box only kinds lead to."""
    folder = tmp_path_factory.mktemp("sited")
    (folder / "sites").mkdir()
    write_site(folder / "sites", WITH_BOX)
    with reviewing(models_dir, folder, sites_dir=folder / "sites") as found:
        yield found


@pytest.fixture
def site_desk(
    browser: Browser, sited: Reviewing, opened: list[BrowserContext], errors: list[str]
) -> Desk:
    return Desk(browser, sited, opened, errors)


def keep_for_sites(held: Reviewing, *sites: str | None) -> list[int]:
    held.refill(0)
    return [held.store.add(new_photo(seed, site=site)).id for seed, site in enumerate(sites)]


def test_a_sites_bins_by_keyboard_alone(site_desk: Desk, sited: Reviewing) -> None:
    first, second, third, fourth, fifth = keep_for_sites(sited, *["tiny"] * 4, "gone")
    page = site_desk.page()
    keyboard, asks = page.keyboard, page.locator("#asks")
    shown(page, first)
    assert page.locator(".choice").all_inner_texts() == [
        "1\nRecycling",
        "2\nRubbish",
        "3\nBattery box",
        "9\nAsk us",
        "N\nNo refuse",
        "0\nCannot be told",
    ]
    keyboard.press("1")  # one superclass: one key
    shown(page, second)
    expect(page.get_by_role("status")).to_have_text("Recycling. Next photo.")
    keyboard.press("2")  # several: a second key
    expect(asks).to_have_text("Rubbish: what is it?")
    keyboard.press("Escape")
    expect(asks).to_have_text("What is it?")
    expect(page.get_by_role("status")).to_have_text("Back to the bins. What is it?")
    keyboard.press("2")
    expect(page.locator(".choice").nth(1)).to_have_text("2Organic")
    assert shown(page) == second
    keyboard.press("2")
    shown(page, third)
    expect(page.locator("#undo")).to_have_text("U Undo: Rubbish (Organic)")
    keyboard.press("3")
    expect(asks).to_have_text("Battery box: what is it?")
    keyboard.press("u")  # goes back, and takes nothing back
    expect(asks).to_have_text("What is it?")
    assert shown(page) == third
    keyboard.press("k")
    keyboard.type("Battery")
    keyboard.press("Enter")
    keyboard.press("3")  # it was told already
    shown(page, fourth)
    keyboard.press("9")  # whoever is not sure may not know that only hazardous things go there
    expect(asks).to_have_text("Ask us: what is it?")
    keyboard.press("1")
    shown(page, fifth)
    expect(page.locator("#rules")).to_have_text("No site’s bins")  # its rules are gone
    expect(page.locator(".choice").first).to_have_text("1Recyclable")
    keyboard.press("1")
    saved(
        page,
        sited,
        {
            first: "recyclable",
            second: "organic",
            third: "hazardous",
            fourth: "hazardous",
            fifth: "recyclable",
        },
    )
    said = {one.photo.id: one.votes[0].verdict for one in sited.store.reviewed()}
    assert [said[one].bin for one in sorted(said)] == ["mixed", "rest", "box", "manual", None]
    assert said[third].subclass == "battery"
    assert said[second].subclass is None


def test_no_refuse_is_in_none_of_a_sites_bins(site_desk: Desk, sited: Reviewing) -> None:
    first, second = keep_for_sites(sited, "tiny", "tiny")
    page = site_desk.page()
    shown(page, first)
    page.keyboard.press("2")
    expect(page.locator("#asks")).to_have_text("Rubbish: what is it?")
    expect(page.get_by_role("button", name="No refuse")).to_have_count(0)
    page.keyboard.press("n")  # says nothing here
    expect(page.locator("#asks")).to_have_text("Rubbish: what is it?")
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    shown(page, second)
    expect(page.locator("#undo")).to_have_text("U Undo: No refuse")
    until(lambda: sited.store.counts().no_refuse == 1, "the word to be saved")
    ((_, vote),) = sited.store.said_by("anna", 9)
    assert vote.verdict == Verdict(None, no_refuse=True)


def test_the_row_of_digits_works_where_it_gives_other_signs(
    site_desk: Desk, sited: Reviewing
) -> None:
    """On a French keyboard the key of 1 gives &."""
    first, second = keep_for_sites(sited, "tiny", "tiny")
    page = site_desk.page()
    shown(page, first)
    page.evaluate(
        """document.body.dispatchEvent(
            new KeyboardEvent("keydown", { key: "&", code: "Digit1", bubbles: true }))"""
    )
    shown(page, second)
    saved(page, sited, {first: "recyclable"})


def test_a_sites_bins_on_a_phone(site_desk: Desk, sited: Reviewing) -> None:
    first, second = keep_for_sites(sited, "tiny", "tiny")
    page = site_desk.page(**PHONE, locale="de-DE")
    shown(page, first)
    for choice in page.locator(".choice").all():
        expect(choice).to_be_in_viewport()
    page.get_by_role("button", name="Restmüll").tap()
    expect(page.locator("#asks")).to_have_text("Restmüll: what is it?")
    expect(page.locator("#asks q")).to_have_attribute("lang", "de")
    for choice in page.locator(".choice").all():
        expect(choice).to_be_in_viewport()
        box = choice.bounding_box()
        assert box is not None
        assert box["height"] >= 44
    page.get_by_role("button", name="Back to the bins").tap()
    page.get_by_role("button", name="Restmüll").tap()
    page.get_by_role("button", name="Residual").tap()
    shown(page, second)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    saved(page, sited, {first: "residual"})


@pytest.mark.parametrize("options", [DESK, PHONE], ids=["desk", "phone"])
def test_bins_and_reviewed_photos_that_are_alike_have_the_contrast_of_wcag_aa(
    site_desk: Desk, sited: Reviewing, options: dict[str, Any]
) -> None:
    first, second, third = keep_for_sites(sited, "tiny", "tiny", "gone")
    page = site_desk.page(**options)
    shown(page, first)
    page.locator(".choice").nth(2).click()
    check_contrast(page)
    page.keyboard.press("1")  # a click in the same place could be the second of a double click
    shown(page, second)
    until(lambda: first in sited.labels(), "the first to be saved")
    page.locator("#ask").click()
    expect(page.locator(".alike li")).to_have_text(["Battery, hazardous"])
    loaded = "image => image.complete && image.naturalWidth > 0"
    until(lambda: page.locator(".alike img").evaluate(loaded), "the thumbnail")
    check_contrast(page)
    page.locator(".choice").first.click()
    shown(page, third)
    expect(page.locator("#rules")).to_be_visible()
    check_contrast(page)
