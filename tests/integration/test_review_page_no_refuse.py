"""The review page on photos that show no refuse: a word as all others are."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from service.review.records import Verdict
from tests.integration.chromium import DESK, IN_CHROMIUM, PHONE
from tests.integration.review_desk import Desk, check_contrast, saved, shown
from tests.integration.reviewing import Reviewing
from tests.integration.server import until
from tests.integration.test_review_page_seen import DRAW, HOLD, fetched

pytestmark = IN_CHROMIUM


def foreign(held: Reviewing, *photos: int) -> None:
    """Until the store has these photos as no refuse, and no others."""
    until(
        lambda: [one.id for one in held.store.no_refuse()] == list(photos), f"{photos} to be kept"
    )


def test_no_refuse_is_said_by_its_key_or_button_and_taken_back(desk: Desk, held: Reviewing) -> None:
    first, second, third, fourth = held.refill(4)
    page = desk.page()
    shown(page, first)
    said = page.locator(".choice").all_inner_texts()
    assert said[-2:] == ["N\nNo refuse", "0\nCannot be told"]
    page.keyboard.press("n")
    shown(page, second)
    expect(page.get_by_role("status")).to_have_text("No refuse. Next photo.")
    expect(page.locator("#progress")).to_have_text("3 left · 1 done · 1 today")
    page.locator(".choice", has_text="No refuse").click()
    shown(page, third)
    foreign(held, first, second)
    page.keyboard.press("u")
    shown(page, second)
    expect(page.get_by_role("status")).to_have_text("Taken back: No refuse.")
    page.keyboard.press("2")
    shown(page, third)
    page.keyboard.press("0")
    shown(page, fourth)
    page.keyboard.press("Shift+N")
    expect(page.get_by_role("heading", name="Nothing waits for you.")).to_be_focused()
    saved(page, held, {second: "residual"})
    foreign(held, first, fourth)
    assert held.store.counts().no_use == 1
    page.get_by_text("Agreement, export, keys").click()
    expect(page.locator("#agreement")).to_contain_text("4 settled (2 as no refuse), 0 on which")


def test_it_can_be_taken_back_in_another_tab(desk: Desk, held: Reviewing) -> None:
    first, second = held.refill(2)
    page = desk.page()
    shown(page, first)
    page.keyboard.press("n")
    foreign(held, first)
    page.close()
    again = desk.page()
    shown(again, second)
    expect(again.get_by_role("button", name="Undo: No refuse")).to_be_visible()
    again.keyboard.press("u")
    shown(again, first)
    again.keyboard.press("3")
    saved(again, held, {first: "organic"})
    foreign(held)


def test_it_is_said_of_no_photo_but_the_one_that_was_looked_at(desk: Desk, held: Reviewing) -> None:
    first, second, third = held.refill(3)
    page = desk.page()
    shown(page, first)
    for photo in (second, third):
        fetched(page, photo)  # so that it is there at once
    page.locator(".choice", has_text="No refuse").dblclick()
    shown(page, second)
    page.evaluate(HOLD)
    page.keyboard.press("1")
    until(lambda: page.evaluate("Boolean(window.draw)"), "the photo to be decoded")
    page.keyboard.press("n")
    page.locator(".choice", has_text="No refuse").click()
    page.evaluate(DRAW)
    shown(page, third)
    page.keyboard.down("n")
    page.keyboard.down("n")  # as the keyboard repeats it
    page.keyboard.up("n")
    saved(page, held, {second: "recyclable"})
    foreign(held, first, third)


def test_what_was_typed_is_no_kind_of_refuse(desk: Desk, held: Reviewing) -> None:
    first, second, third = held.refill(3)
    page = desk.page()
    shown(page, first)
    page.locator("#kind").fill("a cat")
    page.locator("#kind").press("Enter")
    page.keyboard.press("n")
    shown(page, second)
    assert "a cat" not in page.locator("#kinds option").evaluate_all("all => all.map(e => e.value)")
    page.locator("#kind").fill("*table*")  # which is no kind, and need not be
    expect(page.locator("#kind-note")).to_contain_text("No kind")
    page.locator("#kind").press("Enter")
    page.keyboard.press("n")
    shown(page, third)
    foreign(held, first, second)
    said = [vote.verdict for _, vote in held.store.said_by("anna", 9)]
    assert said == [Verdict(None, item=one, no_refuse=True) for one in ("*table*", "a cat")]
    assert held.store.kinds() == []
    page.keyboard.press("u")
    shown(page, second)
    expect(page.locator("#kind")).to_have_value("*table*")


@pytest.mark.parametrize("options", [DESK, PHONE], ids=["desk", "phone"])
def test_it_is_found_on_every_screen_and_told_of_photos_that_are_alike(
    desk: Desk, held: Reviewing, options: dict[str, Any]
) -> None:
    first, second = held.refill(2)
    page = desk.page(**options)
    shown(page, first)
    pair = [page.locator(".choice", has_text=one) for one in ("No refuse", "Cannot be told")]
    boxes = [one.bounding_box() for one in pair]
    for one, box in zip(pair, boxes, strict=True):
        expect(one).to_be_in_viewport(ratio=1)
        assert box is not None
        assert box["height"] >= 44
    assert len({box["y"] for box in boxes if box}) == 1  # one row
    pair[0].click()
    shown(page, second)
    foreign(held, first)
    page.locator("#ask").click()
    expect(page.locator(".alike li")).to_have_text(["No refuse"])
    check_contrast(page)
