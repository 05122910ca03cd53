"""On the review page nobody goes on with another's work, and no word is saved in another's name."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Page, Route, expect

from tests.integration.chromium import IN_CHROMIUM
from tests.integration.review_desk import Desk, saved, shown
from tests.integration.reviewing import CLIENT, KEY, Reviewing
from tests.integration.server import until

PHOTO = Path(__file__).parent.parent / "photos" / "glass.jpg"
pytestmark = IN_CHROMIUM

UNKNOWN = {"title": "No key, or none that is known", "reason": "key_refused", "status": 401}
WAITS = "Not saved yet, and waiting here until anna signs in again: 1 of anna."


def refuse_the_key(route: Route) -> None:
    """As where the keys were changed."""
    route.fulfill(status=401, json=UNKNOWN)


def sign_in(page: Page, name: str) -> None:
    page.get_by_label("Your name").fill(name)
    page.get_by_label("Reviewer key").fill(KEY)
    page.keyboard.press("Enter")


def sign_out(page: Page) -> None:
    page.get_by_text("Agreement, export, keys").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Your name")).to_have_value("")


def reviewers(held: Reviewing) -> dict[int, list[str]]:
    return {one.photo.id: [vote.reviewer for vote in one.votes] for one in held.store.reviewed()}


def test_what_was_not_saved_waits_for_whoever_said_it(desk: Desk, held: Reviewing) -> None:
    first, second, *_ = held.refill(12)
    page = desk.page("anna")
    known = [True]
    page.route("**/verdict", lambda r: r.continue_() if known[0] else refuse_the_key(r))
    shown(page, first)
    page.keyboard.press("1")
    shown(page, second)
    saved(page, held, {first: "recyclable"})
    known[0] = False  # a route from here on could come too late for the next word
    page.keyboard.press("2")
    expect(page.get_by_role("alert")).to_contain_text("does not know this key")
    page.unroute("**/verdict")
    sign_in(page, "bert")
    others = shown(page)
    assert others > second  # which anna has before her still
    expect(page.get_by_role("alert")).to_have_text(WAITS)
    expect(page.locator("#undo")).to_have_attribute("aria-disabled", "true")
    expect(page.locator("#progress")).to_contain_text("0 done")
    page.keyboard.press("3")
    saved(page, held, {first: "recyclable", others: "organic"})
    expect(page.get_by_role("alert")).to_have_text(WAITS)
    sign_out(page)
    expect(page.get_by_role("alert")).to_have_text(WAITS)
    sign_in(page, "anna")
    saved(page, held, {first: "recyclable", others: "organic", second: "residual"})
    expect(page.get_by_role("alert")).to_be_hidden()
    assert reviewers(held) == {first: ["anna"], others: ["bert"], second: ["anna"]}
    expect(page.locator("#progress")).to_contain_text("2 done")
    sign_out(page)
    assert page.evaluate("Object.keys(sessionStorage).length") == 0


def test_whoever_signs_in_again_goes_on_where_they_were(desk: Desk, held: Reviewing) -> None:
    first, second, third = held.refill(3)
    page = desk.page("anna")
    shown(page, first)
    page.route("**/verdict", refuse_the_key)
    page.keyboard.press("1")
    expect(page.get_by_role("alert")).to_contain_text("does not know this key")
    page.unroute("**/verdict")
    sign_in(page, "anna")
    shown(page, second)
    saved(page, held, {first: "recyclable"})
    expect(page.get_by_role("button", name="Undo: Recyclable")).to_be_visible()
    page.keyboard.press("2")
    shown(page, third)


def test_photos_that_another_asked_for_are_not_shown_to_who_signs_in_meanwhile(
    desk: Desk, held: Reviewing
) -> None:
    held.refill(12)
    page = desk.page("anna")
    first = shown(page)
    late: list[Route] = []

    def hold(route: Route) -> None:
        if route.request.headers.get("x-reviewer") == "anna":
            late.append(route)
        else:
            route.continue_()

    page.route("**/queue", hold)
    page.route("**/verdict", refuse_the_key)
    page.keyboard.press("1")
    expect(page.get_by_role("alert")).to_contain_text("does not know this key")
    until(lambda: late or page.evaluate("0"), "anna's next photos to be asked for")
    page.unroute("**/verdict")
    sign_in(page, "bert")
    with page.expect_response(lambda one: one.request.headers.get("x-reviewer") == "bert"):
        late[0].continue_()
    theirs = shown(page)
    assert theirs > first + 3  # anna has so many before her
    held.store.release("anna")
    page.keyboard.press("1")
    saved(page, held, {theirs: "recyclable"})
    assert reviewers(held) == {theirs: ["bert"]}


def test_a_tab_has_a_key_for_review_and_one_for_photos(desk: Desk, held: Reviewing) -> None:
    (first,) = held.refill(1)
    page = desk.page()
    sent = []
    theirs = re.compile("/v1/(models|sites|classify)")  # what the page for photos asks for
    page.on(
        "request",
        lambda one: sent.append(one.headers.get("x-api-key")) if theirs.search(one.url) else None,
    )
    shown(page, first)
    page.get_by_role("link", name="Superbin").click()
    field = page.get_by_label("This service asks for a key")
    expect(field).to_be_focused()
    field.fill(CLIENT)
    page.keyboard.press("Enter")
    page.set_input_files("#choose", PHOTO)
    expect(page.locator(".bin")).to_have_count(1)
    assert {*sent} == {None, CLIENT}
    page.get_by_role("link", name="Review").click()
    shown(page, first)
    page.get_by_role("link", name="Superbin").click()
    page.set_input_files("#choose", PHOTO)
    expect(page.locator(".bin")).to_have_count(1)
