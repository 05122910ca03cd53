"""The review page in a real Chromium: by keyboard, by touch, for two at once, without a network."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, expect

from service.keys import digest_of
from service.review.records import Verdict
from tests.integration.chromium import IN_CHROMIUM, PHONE
from tests.integration.review_desk import Desk, pinch, saved, shown
from tests.integration.reviewing import CLIENT, KEY, Reviewing, reviewing
from tests.integration.server import until

pytestmark = IN_CHROMIUM


def test_from_start_to_finish_by_keyboard_alone(desk: Desk, held: Reviewing) -> None:
    first, second, third, fourth, fifth, sixth = held.refill(6)
    page = desk.page(reviewer=None)
    keyboard = page.keyboard
    expect(page.get_by_label("Your name")).to_be_focused()
    keyboard.type("anna")
    keyboard.press("Tab")
    keyboard.type(KEY)
    keyboard.press("Enter")
    shown(page, first)
    expect(page.locator("#progress")).to_have_text("6 left · 0 done · 0 today")
    guess = page.locator("#guess")
    expect(guess).to_be_hidden()
    keyboard.press("g")
    expect(guess).to_contain_text("Organic")
    expect(guess).to_contain_text("40% sure (tiny/1)")
    expect(guess).to_contain_text("Food 30%")
    keyboard.press("1")
    shown(page, second)
    expect(guess).to_be_hidden()  # of the next photo nothing is told
    expect(page.get_by_role("status")).to_contain_text("Recyclable. Next photo.")
    expect(page.locator("#progress")).to_have_text("5 left · 1 done · 1 today")
    keyboard.press("z")
    transform = page.locator("#photo").evaluate("image => image.style.transform")
    assert "scale(2.5)" in transform
    keyboard.press("ArrowRight")
    assert page.locator("#photo").evaluate("image => image.style.transform") != transform
    keyboard.press("z")
    keyboard.press("u")
    shown(page, first)
    keyboard.press("2")
    shown(page, second)
    keyboard.press("k")
    keyboard.type("4 crisp packets")  # a figure in the field is no verdict
    keyboard.press("Enter")
    keyboard.press("2")
    shown(page, third)
    keyboard.press("s")
    shown(page, fourth)
    keyboard.press("0")
    shown(page, fifth)
    keyboard.press("3")
    shown(page, sixth)
    keyboard.press("Control+z")
    shown(page, fifth)
    keyboard.press("4")
    shown(page, sixth)
    keyboard.press("1")
    expect(page.get_by_role("heading", name="Only skipped photos are left.")).to_be_focused()
    keyboard.press("Tab")
    keyboard.press("Enter")
    shown(page, third)
    keyboard.press("3")
    expect(page.get_by_role("heading", name="Nothing waits for you.")).to_be_focused()
    expect(page.get_by_text("You have done 6, today 6.")).to_be_visible()
    saved(
        page,
        held,
        {
            first: "residual",
            second: "residual",
            third: "organic",
            fifth: "hazardous",
            sixth: "recyclable",
        },
    )
    kinds = {one.photo.id: one.subclass for one in held.store.reviewed()}
    assert kinds[second] == "4 crisp packets"
    assert kinds[third] is None
    assert held.store.counts().reviewed == 6


def test_what_was_said_in_another_tab_can_be_taken_back(desk: Desk, held: Reviewing) -> None:
    first, second, third = held.refill(3)
    page = desk.page()
    shown(page, first)
    page.keyboard.press("2")
    shown(page, second)
    page.keyboard.press("k")
    page.keyboard.type("tea")
    page.keyboard.press("Enter")
    page.keyboard.press("3")
    saved(page, held, {first: "residual", second: "organic"})
    page.close()
    again = desk.page()
    shown(again, third)
    expect(again.get_by_role("button", name="Undo: Organic")).to_be_visible()
    again.keyboard.press("u")
    shown(again, second)
    expect(again.locator("#kind")).to_have_value("tea")
    expect(again.get_by_role("button", name="Undo: Residual")).to_be_visible()
    again.keyboard.press("u")
    shown(again, first)
    again.keyboard.press("1")
    shown(again, second)
    saved(again, held, {first: "recyclable"})
    other = desk.page(reviewer="bert")
    expect(other.get_by_role("heading", name="Nothing waits for you.")).to_be_focused()
    other.keyboard.press("u")
    expect(other.get_by_role("status")).to_have_text("There is nothing to undo.")
    expect(other.get_by_role("button", name="Undo")).to_be_hidden()
    for photo in (second, third):
        shown(again, photo)
        again.keyboard.press("1")
    again.get_by_role("button", name="Undo: Recyclable").click()  # when nothing waits any more
    shown(again, third)


def test_a_kind_under_another_superclass_is_told_before_and_after(
    desk: Desk, held: Reviewing
) -> None:
    first, second = held.refill(2)
    page = desk.page()
    shown(page, first)
    page.keyboard.press("k")
    page.keyboard.type("Battery")  # spelt otherwise, and the same kind
    expect(page.locator("#kind-note")).to_contain_text("as Hazardous.")
    page.keyboard.press("Enter")
    page.keyboard.press("3")
    shown(page, second)
    told = "Organic, though the model knows Battery as Hazardous"
    expect(page.get_by_role("status")).to_contain_text(told)
    expect(page.get_by_role("button", name=f"Undo: {told}")).to_be_visible()
    saved(page, held, {first: "organic"})
    again = desk.page()
    shown(again, second)
    same = told.replace("Battery", "battery")  # as the service spells it
    expect(again.get_by_role("button", name=f"Undo: {same}")).to_be_visible()


def test_on_a_phone_by_touch(desk: Desk, held: Reviewing) -> None:
    first, second, third = held.refill(3)
    page = desk.page(**PHONE)
    shown(page, first)
    for button in page.locator("button:visible").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 44
        assert box["width"] >= 44
    for choice in page.locator(".choice").all():
        expect(choice).to_be_in_viewport()  # the photo and every bin without scrolling
    page.get_by_role("button", name="Organic").tap()
    shown(page, second)
    page.get_by_role("button", name="Undo: Organic").tap()
    shown(page, first)
    page.get_by_role("button", name="Hazardous").tap()
    shown(page, second)
    pinch(page)
    scale = page.locator("#photo").evaluate("image => image.style.transform")
    assert float(re.findall(r"scale\(([\d.]+)\)", scale)[0]) > 1.5
    assert page.evaluate("visualViewport.scale") == 1
    # Not a tap: Chromium may take that for a part of the pinch.
    page.get_by_role("button", name="Skip").click()
    shown(page, third)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    saved(page, held, {first: "hazardous"})


def test_without_a_network_words_wait_are_told_and_are_saved_after(
    desk: Desk, held: Reviewing
) -> None:
    first, second, third, *_ = held.refill(5)
    page = desk.page()
    shown(page, first)
    page.locator("#progress").get_by_text("5").wait_for()
    until(lambda: page.evaluate("performance.getEntriesByType('resource').length") > 8, "photos")
    page.context.set_offline(True)
    page.keyboard.press("1")
    shown(page, second)  # it goes on: the next photos are here already
    expect(page.get_by_role("alert")).to_contain_text("Not saved yet: 1")
    page.keyboard.press("2")
    shown(page, third)
    expect(page.get_by_role("alert")).to_contain_text("Not saved yet: 2")
    page.keyboard.press("u")  # nobody has heard it yet
    shown(page, second)
    page.keyboard.press("3")
    shown(page, third)
    assert held.labels() == {}
    page.context.set_offline(False)
    saved(page, held, {first: "recyclable", second: "organic"})
    expect(page.get_by_role("alert")).to_be_hidden()


def test_words_outlive_a_reload(desk: Desk, held: Reviewing) -> None:
    first, *_ = held.refill(3)
    page = desk.page()
    shown(page, first)
    page.route("**/verdict", lambda route: route.abort())
    page.keyboard.press("4")
    expect(page.get_by_role("alert")).to_contain_text("Not saved yet: 1")
    page.unroute("**/verdict")
    page.reload()
    saved(page, held, {first: "hazardous"})


def test_a_photo_that_is_gone_is_passed_over(desk: Desk, held: Reviewing) -> None:
    first, second = held.refill(2)
    page = desk.page()
    shown(page, first)
    (fresh,) = held.refill(1)
    page.keyboard.press("1")
    shown(page, second)  # which had been fetched before
    page.keyboard.press("1")
    shown(page, fresh)
    expect(page.get_by_role("status")).to_contain_text("no longer kept")
    page.keyboard.press("2")
    saved(page, held, {fresh: "residual"})


def test_photos_whose_files_are_missing_are_passed_over(desk: Desk, held: Reviewing) -> None:
    """More of them than are fetched ahead, and once more where skipped ones are looked at."""
    *missing, there = held.refill(10)
    for photo in missing:
        held.store._files.remove(held.store.photo(photo).sha256)
    page = desk.page()
    shown(page, there)
    expect(page.locator("#agreement")).to_contain_text("9 could not be fetched any more")
    for _ in range(2):
        page.keyboard.press("1")
        saved(page, held, {there: "recyclable"})
    expect(page.get_by_role("heading", name="Only skipped photos are left.")).to_be_visible()
    page.get_by_role("button", name="Look at the 9 skipped again").click()
    expect(page.get_by_role("heading", name="Nothing waits for you.")).to_be_visible()
    assert held.labels() == {there: "recyclable"}


def test_two_reviewers_share_the_queue_and_meet_no_photo_twice(desk: Desk, held: Reviewing) -> None:
    ids = held.refill(12)
    pages = [desk.page("anna"), desk.page("bert")]
    before: set[int] = set()
    while not all(page.locator("#rest").is_visible() for page in pages):
        now = []
        for page in pages:
            there = page.locator("#photo[data-id]:not([data-id='']), #rest")
            expect(there.filter(visible=True)).to_have_count(1)
            if not page.locator("#rest").is_visible():
                now.append(shown(page))
                page.keyboard.press("1")
                page.wait_for_selector(f"#photo:not([data-id='{now[-1]}'])", state="attached")
        assert not before & set(now)
        before |= set(now)
    assert sorted(before) == ids
    until(lambda: len(held.labels()) == 12, "all to be saved")
    votes = [len(one.votes) for one in held.store.reviewed()]
    assert votes == [1] * 12


def test_a_guess_without_reviewed_photos_says_so(desk: Desk, held: Reviewing) -> None:
    held.refill(1)
    page = desk.page()
    shown(page)
    page.keyboard.press("g")
    expect(page.locator("#guess")).to_contain_text("No reviewed photo can be compared with it yet")


def test_a_clients_key_is_told_to_be_none_for_review(desk: Desk, held: Reviewing) -> None:
    held.refill(1)
    page = desk.page(reviewer=None)
    page.get_by_label("Your name").fill("anna")
    page.get_by_label("Reviewer key").fill(CLIENT)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("expected a reviewer's key")
    expect(page.get_by_label("Reviewer key")).to_be_focused()
    page.keyboard.type(KEY)
    page.keyboard.press("Enter")
    shown(page)


def test_what_feedback_disputes_is_told(desk: Desk, held: Reviewing) -> None:
    first, *_ = held.refill(2)
    held.store.review(first, "bert", Verdict("organic"))
    held.store.feedback("request-0", 0, "client:kiosk", Verdict("residual"))
    page = desk.page()
    shown(page, first)  # a third person is asked
    page.get_by_text("Agreement, export, keys").click()
    told = "2 photos kept, 0 settled, 1 on which people do not agree, 1 disputed by"
    expect(page.locator("#agreement")).to_contain_text(told)


def test_a_wrong_key_is_told_and_asked_for_again(desk: Desk, held: Reviewing) -> None:
    held.refill(1)
    page = desk.page(reviewer=None)
    page.get_by_label("Your name").fill("anna")
    page.get_by_label("Reviewer key").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("does not know this key")
    expect(page.get_by_label("Reviewer key")).to_be_focused()
    page.keyboard.type(KEY)
    page.keyboard.press("Enter")
    shown(page)
    page.reload()  # the tab remembers
    shown(page)
    page.get_by_text("Agreement, export, keys").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Your name")).to_have_value("")
    assert page.evaluate("Object.keys(sessionStorage).length") == 0


def test_a_kind_that_nobody_knows_is_told_with_near_ones(desk: Desk, held: Reviewing) -> None:
    first, second = held.refill(2)
    page = desk.page()
    shown(page, first)
    note = page.locator("#kind-note")
    page.locator("#kind").fill("batery")
    expect(note).to_have_text("A new kind. Did you mean battery?")
    page.locator("#kind").fill("Battery")
    expect(note).to_have_text("The model knows Battery as Hazardous.")
    page.locator("#kind").fill("glow stick")
    expect(note).to_have_text("A new kind.")
    page.get_by_role("button", name="Hazardous").click()
    shown(page, second)
    expect(note).to_be_hidden()
    saved(page, held, {first: "hazardous"})


def test_a_name_that_the_key_is_not_for_is_asked_for_again(
    browser: Browser, models_dir: Path, tmp_path: Path, errors: list[str]
) -> None:
    opened: list[BrowserContext] = []
    keys = f'reviewers.room = "{digest_of(KEY)}"\npeople.room = ["Anna Huber", "ben"]\n'
    with reviewing(models_dir, tmp_path, keys=keys) as held:
        (photo,) = held.refill(1)
        page = Desk(browser, held, opened, errors).page("anna")
        expect(page.get_by_role("alert")).to_contain_text("expected one of Anna Huber, ben, whom")
        page.get_by_label("Your name").fill("Anna Huber")
        page.get_by_label("Reviewer key").fill(KEY)
        page.keyboard.press("Enter")
        shown(page, photo)
        opened[0].close()


def test_single_keys_can_be_switched_off(desk: Desk, held: Reviewing) -> None:
    (first,) = held.refill(1)
    page = desk.page()
    shown(page, first)
    page.get_by_text("Agreement, export, keys").click()
    page.get_by_role("checkbox").uncheck()
    page.keyboard.press("1")
    assert page.get_attribute("#photo", "data-id") == str(first)
    page.get_by_role("checkbox").check()
    page.keyboard.press("1")
    saved(page, held, {first: "recyclable"})


def test_what_was_reviewed_can_be_fetched(desk: Desk, held: Reviewing, tmp_path: Path) -> None:
    held.refill(2)
    page = desk.page()
    for _ in range(2):
        photo = shown(page)
        page.keyboard.press("3")
        page.wait_for_selector(f"#photo:not([data-id='{photo}']), #rest:visible", state="attached")
    until(lambda: len(held.labels()) == 2, "both to be saved")
    page.get_by_text("Agreement, export, keys").click()
    for button, name in (("Labels (CSV)", "labels.csv"), ("photos (ZIP)", "reviewed.zip")):
        with page.expect_download() as download:
            page.get_by_role("button", name=button).click()
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
    labels = (tmp_path / "labels.csv").read_text()
    assert labels.count(",organic,") == 2
    with zipfile.ZipFile(tmp_path / "reviewed.zip") as archive:
        assert archive.read("labels.csv").decode() == labels
        assert len(archive.namelist()) == 3
    (gone, *_) = held.store.reviewed()
    next(held.photos.rglob(f"{gone.photo.sha256}.jpg")).unlink()
    with page.expect_download():
        page.get_by_role("button", name="photos (ZIP)").click()
    told = "Photos whose files are missing are not in it: its missing.csv lists them."
    expect(page.locator("#exported")).to_have_text(f"reviewed.zip is here. {told}")
