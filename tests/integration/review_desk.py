"""The review page as its tests open it."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.integration.chromium import DESK
from tests.integration.contrast import AA, lowest_contrast
from tests.integration.reviewing import KEY, Reviewing
from tests.integration.server import until

SHOWN = re.compile(r"\d+")


class Desk:
    """Opens the page as one reviewer or another."""

    def __init__(
        self, browser: Browser, held: Reviewing, opened: list[BrowserContext], errors: list[str]
    ) -> None:
        self._browser, self._held = browser, held
        self._opened, self._errors = opened, errors

    def page(self, reviewer: str | None = "anna", **options: Any) -> Page:
        context = self._browser.new_context(base_url=self._held.server.url, **(options or DESK))
        self._opened.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: self._errors.append(str(error)))
        page.on(
            "console",
            lambda m: self._errors.append(m.text) if "Content Security" in m.text else None,
        )
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto("/review")
        if reviewer:
            page.get_by_label("Your name").fill(reviewer)
            page.get_by_label("Reviewer key").fill(KEY)
            page.keyboard.press("Enter")
        return page


def shown(page: Page, photo: int | None = None) -> int:
    """The id of the photo that is before the reviewer, once it is there."""
    wanted = SHOWN if photo is None else str(photo)
    expect(page.locator("#photo")).to_have_attribute("data-id", wanted)
    return int(page.get_attribute("#photo", "data-id") or 0)


def saved(page: Page, held: Reviewing, labels: dict[int, str]) -> None:
    until(lambda: held.labels() == labels or page.evaluate("0"), f"{labels} to be saved")


def pinch(page: Page) -> None:
    """Two fingers that part."""
    box = page.locator("#stage").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch = page.context.new_cdp_session(page)
    for kind, apart in (("touchStart", 20), ("touchMove", 40), ("touchMove", 80), ("touchEnd", 0)):
        points = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        given = {"type": kind, "touchPoints": points if apart else []}
        touch.send("Input.dispatchTouchEvent", given)


def check_contrast(page: Page) -> None:
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        ratio, which = lowest_contrast(page)
        assert ratio >= AA, (scheme, which)
