"""The review page for whoever sees little, or has a small screen."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from tests.integration.chromium import DESK, IN_CHROMIUM, PHONE
from tests.integration.review_desk import Desk, check_contrast, shown
from tests.integration.reviewing import KEY, Reviewing
from tests.photo_factory import noise
from tests.review_stores import new_photo

pytestmark = IN_CHROMIUM


@pytest.mark.parametrize("size", [(300, 900), (900, 300)])
def test_the_whole_photo_is_seen(desk: Desk, held: Reviewing, size: tuple[int, int]) -> None:
    held.refill(0)
    held.store.add(new_photo(1, data=noise(1, *size)))
    for options in (DESK, PHONE, {"viewport": {"width": 1280, "height": 600}}):
        page = desk.page(**options)
        shown(page)
        image, stage = page.locator("#photo").bounding_box(), page.locator("#stage").bounding_box()
        assert image == stage  # in which it is contained
        assert page.locator("#photo").evaluate("e => getComputedStyle(e).objectFit") == "contain"
        held.store.release("anna")


@pytest.mark.parametrize("options", [DESK, PHONE], ids=["desk", "phone"])
def test_every_text_has_the_contrast_of_wcag_aa(
    desk: Desk, held: Reviewing, options: dict[str, Any]
) -> None:
    _, second = held.refill(2)
    page = desk.page(reviewer=None, **options)
    check_contrast(page)
    page.get_by_label("Your name").fill("anna")
    page.get_by_label("Reviewer key").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("does not know this key")
    check_contrast(page)
    page.get_by_label("Reviewer key").fill(KEY)
    page.keyboard.press("Enter")
    shown(page)
    page.keyboard.press("g")
    page.get_by_text("Agreement, export, keys").click()
    page.locator("#kind").fill("tea bag")
    check_contrast(page)
    page.locator(".choice").first.hover()
    check_contrast(page)
    page.locator(".choice").first.click()
    shown(page, second)
    page.locator(".choice").nth(1).click()
    expect(page.get_by_role("heading", name="Nothing waits for you.")).to_be_visible()
    check_contrast(page)


def test_focus_is_seen_on_everything_that_can_have_it(desk: Desk, held: Reviewing) -> None:
    held.refill(1)
    page = desk.page()
    shown(page)
    page.get_by_text("Agreement, export, keys").click()
    page.locator("body").press("Tab")
    seen = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        name, style, width = page.evaluate(
            """() => {
                const e = document.activeElement, s = getComputedStyle(e);
                return [e.id || e.textContent.trim(), s.outlineStyle, parseFloat(s.outlineWidth)];
            }"""
        )
        if page.evaluate("document.activeElement === document.body") or name in seen:
            continue
        seen.add(name)
        assert style == "solid", name
        assert width >= 2, name
    assert {"skip", "undo", "zoom", "ask", "kind", "export-csv", "sign-out", "keys"} <= seen


@pytest.mark.parametrize("width", [640, 320])
def test_at_200_and_400_per_cent_nothing_is_cut_off(
    desk: Desk, held: Reviewing, width: int
) -> None:
    """A browser at 200% on a desk of 1280 x 900 lays out 640 x 450 CSS pixels."""
    held.refill(1)
    page = desk.page(viewport={"width": width, "height": width * 450 // 640})
    shown(page)
    page.keyboard.press("g")
    page.get_by_text("Agreement, export, keys").click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for one in page.locator("button:visible, input:visible, h2:visible").all():
        box = one.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
