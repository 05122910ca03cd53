"""The review page takes words on no photo but the one that was looked at."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.integration.chromium import IN_CHROMIUM
from tests.integration.review_desk import Desk, saved, shown
from tests.integration.reviewing import Reviewing
from tests.integration.server import until

pytestmark = IN_CHROMIUM

TAP = """(choice, [left, top, time]) => {
    const [clientX, clientY] = [left, top];
    const tap = new MouseEvent("click", { detail: 1, clientX, clientY, bubbles: true });
    Object.defineProperty(tap, "timeStamp", { value: time });
    choice.dispatchEvent(tap);
}"""
DRAW = "() => { window.draw(); window.draw = null; }"
HOLD = """() => {
    const { decode } = HTMLImageElement.prototype;
    HTMLImageElement.prototype.decode = function () {
        if (!this.isConnected) return decode.call(this);
        return new Promise((done) => { window.draw = done; });
    };
}"""


def fetched(page: Page, photo: int) -> None:
    ends = f"one => one.name.endsWith('/photos/{photo}')"
    there = f"performance.getEntriesByType('resource').some({ends})"
    until(lambda: page.evaluate(there), f"photo {photo} to be fetched")


def test_a_double_click_counts_once(desk: Desk, held: Reviewing) -> None:
    first, second, third, fourth = held.refill(4)
    page = desk.page()
    shown(page, first)
    for photo in (second, third, fourth):
        fetched(page, photo)  # so that it is there at once
    page.locator(".choice").first.dblclick()
    shown(page, second)
    page.locator("#skip").dblclick()
    shown(page, third)
    page.keyboard.press("2")
    shown(page, fourth)
    saved(page, held, {first: "recyclable", third: "residual"})


def test_two_taps_in_a_place_count_once_where_the_browser_does_not_count_them(
    desk: Desk, held: Reviewing
) -> None:
    first, second, third, fourth = held.refill(4)
    page = desk.page()
    choices = page.locator(".choice")
    shown(page, first)
    choices.first.evaluate(TAP, [100, 100, 1000])
    shown(page, second)
    choices.first.evaluate(TAP, [105, 98, 1300])
    choices.nth(1).evaluate(TAP, [300, 100, 1400])  # elsewhere, and so another
    shown(page, third)
    choices.nth(1).evaluate(TAP, [300, 100, 2000])  # later, and so another
    shown(page, fourth)
    saved(page, held, {first: "recyclable", second: "residual", third: "residual"})


def test_a_buttons_key_that_is_held_down_counts_once(desk: Desk, held: Reviewing) -> None:
    first, second, third = held.refill(3)
    page = desk.page()
    shown(page, first)
    page.locator(".choice").first.focus()
    page.keyboard.down("Enter")
    shown(page, second)
    page.keyboard.down("Enter")  # as the keyboard repeats it
    page.keyboard.up("Enter")
    page.keyboard.press("2")
    shown(page, third)
    page.keyboard.press("Enter")  # once more, and meant
    saved(page, held, {first: "recyclable", second: "residual", third: "recyclable"})


def test_a_photo_that_is_not_drawn_yet_cannot_be_spoken_of(desk: Desk, held: Reviewing) -> None:
    first, second, third = held.refill(3)
    page = desk.page()
    shown(page, first)
    page.evaluate(HOLD)
    page.keyboard.press("1")
    until(lambda: page.evaluate("Boolean(window.draw)"), "the photo to be decoded")
    expect(page.locator("#photo")).to_have_attribute("data-id", "")
    page.keyboard.press("1")
    page.locator(".choice").first.click()
    page.evaluate(DRAW)
    shown(page, second)
    page.keyboard.press("2")
    page.wait_for_selector(f"#photo:not([data-id='{second}'])", state="attached")
    until(lambda: page.evaluate("Boolean(window.draw)"), "the photo to be decoded")
    page.evaluate(DRAW)
    saved(page, held, {first: "recyclable", second: "residual"})
    shown(page, third)


def test_a_photo_that_does_not_decode_is_fetched_again(desk: Desk, held: Reviewing) -> None:
    first, second = held.refill(2)
    page = desk.page()
    shown(page, first)
    page.evaluate(
        """() => {
            const { decode } = HTMLImageElement.prototype;
            HTMLImageElement.prototype.decode = function () {
                HTMLImageElement.prototype.decode = decode;
                return Promise.reject(new DOMException("broken", "EncodingError"));
            };
        }"""
    )
    page.keyboard.press("1")
    expect(page.locator("#no-photo")).to_contain_text("Trying again")
    shown(page, second)
    expect(page.locator("#no-photo")).to_be_hidden()
