"""The page in a real Chromium, on a desk and on a phone."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from service.keys import digest_of
from tests.integration.chromium import DESK, IN_CHROMIUM, PHONE
from tests.integration.contrast import AA, lowest_contrast
from tests.integration.server import Server, running, until
from tests.photo_factory import noise
from tests.tiny_bundle import ITEMS, WIDTH, add_guide, add_limits, write_bundle

PHOTOS = Path(__file__).parent.parent / "photos"
pytestmark = IN_CHROMIUM


@pytest.fixture(params=[DESK, PHONE], ids=["desk", "phone"])
def page(browser: Browser, server: Server, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page, open; it must ask nobody else and raise no error."""
    context = browser.new_context(**request.param, base_url=server.url)
    page = context.new_page()
    elsewhere: list[str] = []
    errors: list[str] = []
    page.on(
        "request",
        lambda r: None if r.url.startswith((server.url, "blob:")) else elsewhere.append(r.url),
    )
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda m: errors.append(m.text) if "Content Security" in m.text else None)
    page.goto("/")
    yield page
    context.close()
    assert not elsewhere
    assert not errors


def choose(page: Page, *names: str) -> None:
    page.set_input_files("#choose", [PHOTOS / name for name in names])


def test_a_photo_gets_a_bin_a_confidence_and_the_reasons(page: Page) -> None:
    expect(page.get_by_text("Sorts into")).to_be_visible()
    choose(page, "glass.jpg")
    card = page.get_by_role("listitem").filter(has_text="glass.jpg")
    expect(card.locator(".bin")).to_have_text(re.compile("Recyclable|Residual|Organic|Hazardous"))
    expect(card.locator(".sure")).to_have_text(re.compile(r"\d+% sure"))
    expect(card.locator(".note")).to_have_text(re.compile("^(Sure|Not sure) enough to sort"))
    expect(card.get_by_label("How sure, bin by bin").get_by_role("listitem")).to_have_count(4)
    reasons = card.locator("details")
    expect(reasons).to_contain_text("this photo itself")
    expect(reasons).to_contain_text("from generated")
    expect(reasons.get_by_role("listitem")).to_have_count(6)
    image = card.locator("img")
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 512
    expect(page.get_by_role("status")).to_contain_text("glass.jpg: ")


def test_a_guide_is_among_the_reasons_and_what_it_goes_by(browser: Browser, tmp_path: Path) -> None:
    add_guide(write_bundle(tmp_path / "models"))
    with running(tmp_path / "models", model="tiny") as server:
        page = browser.new_page(base_url=server.url)
        page.goto("/")
        choose(page, "glass.jpg")
        reasons = page.locator("details", has_text="What the model looked at")
        expect(reasons).to_contain_text(
            "a sorting guide (it looks a little like “paint can”, “mirror”)"
        )
        expect(reasons.get_by_role("listitem")).to_have_count(6)
        expect(reasons).not_to_contain_text("this photo itself")


def test_a_doubted_photo_says_why_in_plain_words(browser: Browser, tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "models", threshold=0.0)
    add_limits(path, np.eye(ITEMS, WIDTH, dtype=np.float32), threshold=1.0)
    photo = tmp_path / "night.png"
    Image.new("RGB", (64, 64), (9, 9, 9)).save(photo)
    with running(tmp_path / "models", model="tiny") as server:
        page = browser.new_page(base_url=server.url)
        page.goto("/")
        page.set_input_files("#choose", photo)
        note = page.locator(".note.manual")
        expect(note).to_contain_text("It is too dark: take it again with more light.")
        expect(note).to_contain_text("There seems to be nothing on it.")
        expect(note).to_contain_text("may be no refuse")
        expect(note).to_contain_text("Or let a person look at it.")
        expect(page.get_by_role("status")).to_contain_text("It is too dark")
        page.close()


def test_several_photos_keep_their_order_and_a_bad_one_is_told_in_words(
    page: Page, tmp_path: Path
) -> None:
    bad = tmp_path / "notes.jpg"
    bad.write_text("no photo")
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(noise(1)[:-500])
    page.set_input_files("#choose", [PHOTOS / "metal.jpg", bad, cut, PHOTOS / "paper.jpg"])
    cards = page.locator(".card")
    expect(cards).to_have_count(4)
    expect(cards.locator(".name")).to_have_text(["metal.jpg", "notes.jpg", "cut.jpg", "paper.jpg"])
    expect(cards.nth(0).locator(".bin")).to_be_visible()
    expect(cards.nth(1)).to_contain_text("not a photo that can be read here")
    expect(cards.nth(2)).to_contain_text("damaged or incomplete")
    expect(cards.nth(3).locator(".bin")).to_be_visible()
    page.get_by_role("button", name="Clear").click()
    expect(cards).to_have_count(0)


def test_what_is_chosen_before_the_script_is_there_is_answered(page: Page) -> None:
    held: list[Route] = []
    page.route("**/page.js", lambda route: held.append(route))
    page.goto("/", wait_until="commit")
    choose(page, "glass.jpg")
    until(lambda: held or page.evaluate("0"), "the script to be asked for")
    held[0].continue_()
    expect(page.locator(".card .bin")).to_be_visible()


def test_what_is_chosen_before_the_sites_are_there_is_asked_for_the_one_of_this_tab(
    page: Page,
) -> None:
    page.get_by_label("Bins of").select_option("city-four-bins")
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url) if "/v1/classify" in r.url else None)
    held: list[Route] = []
    page.route("**/v1/sites", lambda route: held.append(route))
    page.goto("/")
    choose(page, "glass.jpg")
    until(lambda: held or page.evaluate("0"), "the sites to be asked for")
    held[0].continue_()
    expect(page.locator(".card .bin")).to_be_visible()
    assert [url.partition("?")[2] for url in asked] == ["site=city-four-bins"]


def test_a_site_that_is_chosen_gives_its_own_bins(page: Page) -> None:
    chooser = page.get_by_label("Bins of")
    expect(chooser).to_have_value("")
    expect(page.locator("#bins")).to_contain_text("Recyclable")
    chooser.select_option("German household")  # Chromium's language is English
    expect(page.locator("#bins")).to_contain_text("Bottle bank")
    page.locator("#choose").set_input_files(PHOTOS / "glass.jpg")
    card = page.locator("#results > li")
    names = ["Paper", "Packaging", "Bottle bank", "Organic", "Residual waste", "Not into a bin"]
    expect(card.locator(".bin")).to_have_text(re.compile("|".join(names)))
    expect(card.locator(".shares").first.locator("li")).to_have_count(len(names))
    expect(page.get_by_role("status")).to_contain_text("glass.jpg:")
    page.reload()
    expect(chooser).to_have_value("german-household")


def test_photos_can_be_dropped_and_pasted(page: Page) -> None:
    script = """
        async ([kind, data]) => {
            const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], `${kind}.jpg`, {type: "image/jpeg"}));
            document.dispatchEvent(kind === "drop"
                ? new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true})
                : new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true}));
        }
    """
    data = base64.b64encode((PHOTOS / "trash.jpg").read_bytes()).decode()
    for kind in ("drop", "paste"):
        page.evaluate(script, [kind, data])
        expect(page.locator(".card").filter(has_text=f"{kind}.jpg").locator(".bin")).to_be_visible()


@pytest.mark.parametrize(("status", "times"), [(503, 2), (429, 9)])
def test_a_service_that_is_busy_is_asked_again(page: Page, status: int, times: int) -> None:
    refusals = iter([status] * times)

    def handle(route: Any) -> None:
        if next(refusals, None):
            route.fulfill(status=status, headers={"Retry-After": "0.01"}, body="{}")
        else:
            route.continue_()

    page.route("**/v1/classify", handle)
    choose(page, "glass.jpg")
    expect(page.locator(".bin")).to_be_visible()


def test_whoever_is_to_come_back_much_later_is_told(page: Page) -> None:
    told = {"reason": "rate_limited", "title": "Too many at once"}
    headers = {"Retry-After": "3600"}
    page.route("**/v1/classify", lambda r: r.fulfill(status=429, headers=headers, json=told))
    choose(page, "glass.jpg")
    expect(page.locator(".card")).to_contain_text("You have sent many photos.")
    page.unroute("**/v1/classify")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".bin")).to_be_visible()


def test_a_service_that_is_away_is_told_and_can_be_tried_again(page: Page) -> None:
    page.route("**/v1/classify", lambda route: route.abort())
    choose(page, "glass.jpg")
    expect(page.locator(".card")).to_contain_text("cannot be reached")
    page.unroute("**/v1/classify")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".bin")).to_be_visible()


def test_nothing_is_wider_than_the_screen_and_targets_are_large(page: Page) -> None:
    choose(page, "cardboard.jpg", "plastic.jpg")
    expect(page.locator(".bin")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for target in page.locator(".button:visible, .plain:visible, summary:visible").all():
        box = target.bounding_box()
        assert box is not None
        assert box["height"] >= 44


def test_the_camera_is_offered_where_there_is_touch(page: Page) -> None:
    touch = page.evaluate("navigator.maxTouchPoints > 0")
    expect(page.get_by_text("Take a photo")).to_be_visible(visible=touch)
    assert page.get_attribute("#camera", "capture") == "environment"


def test_it_can_be_used_with_the_keyboard_alone(page: Page) -> None:
    page.keyboard.press("Tab")
    focused = [page.evaluate("document.activeElement.id || document.activeElement.className")]
    for _ in range(4):
        page.keyboard.press("Tab")
        focused.append(page.evaluate("document.activeElement.id"))
    assert "choose" in focused


def test_text_has_the_contrast_of_wcag_aa_in_light_and_dark(page: Page) -> None:
    choose(page, "glass.jpg")
    expect(page.locator(".bin")).to_be_visible()
    page.emulate_media(reduced_motion="reduce")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        assert lowest_contrast(page)[0] >= AA, lowest_contrast(page)


def test_the_documents_are_drawn_from_the_description(page: Page) -> None:
    page.get_by_role("link", name="For developers").click()
    expect(page.get_by_role("heading", name="The API")).to_be_visible()
    expect(page.locator(".operation").first).to_contain_text("/v1/classify")
    expect(page.locator("#curl")).to_contain_text("curl -F file=@")
    expect(page.locator(".operation").first).to_contain_text("X-API-Key or Authorization: Bearer")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_an_answer_to_an_earlier_key_comes_late(
    browser: Browser, models_dir: Path, tmp_path: Path
) -> None:
    """The photo is asked for again with the key of now, and nobody is asked for it."""
    (tmp_path / "keys.toml").write_text(f'[clients]\nkiosk = "{digest_of("sesame")}"\n')
    held: list[Route] = []

    def hold(route: Route) -> None:
        if route.request.headers.get("x-api-key") == "wrong":
            held.append(route)
        else:
            route.continue_()

    with running(models_dir, keys_file=tmp_path / "keys.toml") as server:
        context = browser.new_context(**PHONE, base_url=server.url)
        page = context.new_page()
        page.goto("/")
        field = page.get_by_label("This service asks for a key")
        choose(page, "glass.jpg")
        expect(page.locator(".note").get_by_text("did not accept the key")).to_be_visible()
        page.route("**/v1/classify*", hold)
        with page.expect_request("**/v1/classify*"):
            field.fill("wrong")
            page.keyboard.press("Enter")
        expect(field).to_be_focused()  # for what the model is
        field.fill("sesame")
        page.keyboard.press("Enter")
        expect(page.locator("#footer")).to_contain_text("Model tiny")
        held[0].continue_()
        expect(page.locator(".bin")).to_have_count(1)
        expect(field).to_be_hidden()
        context.close()


def test_where_keys_are_set_the_page_asks_for_one(
    browser: Browser, models_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "keys.toml").write_text(f'[clients]\nkiosk = "{digest_of("sesame")}"\n')
    with running(models_dir, keys_file=tmp_path / "keys.toml") as server:
        context = browser.new_context(**PHONE, base_url=server.url)
        page = context.new_page()
        page.goto("/")
        field = page.get_by_label("This service asks for a key")
        expect(field).to_be_focused()
        choose(page, "glass.jpg")
        expect(page.locator(".note").get_by_text("did not accept the key")).to_be_visible()
        with page.expect_response("**/v1/classify*"):
            field.fill("wrong")
            page.keyboard.press("Enter")
        expect(field).to_be_focused()  # asked once more
        field.fill("sesame")
        page.keyboard.press("Enter")
        expect(page.locator(".bin")).to_have_count(1)
        expect(field).to_be_hidden()
        expect(page.locator("#footer")).to_contain_text("Model tiny")
        page.reload()
        choose(page, "glass.jpg")
        expect(page.locator(".bin")).to_have_count(1)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        context.close()
