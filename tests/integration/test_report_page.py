"""The report in a real Chromium: as a page, and as a file that needs no server."""

from __future__ import annotations

import itertools
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from service.composition.store import CompositionStore
from service.composition.tally import Tally
from service.keys import digest_of
from service.tags import Tags
from tests.composition import MODEL, answered, sorting
from tests.integration.chromium import DESK, IN_CHROMIUM, PHONE
from tests.integration.contrast import AA, lowest_contrast
from tests.integration.server import ROOT, Server, running
from tests.tiny_site import TINY, write_site

HOUR_S = 3600
CLOCKS_GO_BACK = datetime(2026, 10, 25, tzinfo=UTC).timestamp()  # at 01:00 UTC in Berlin

pytestmark = IN_CHROMIUM


def fill(url: str, now: float) -> None:
    """40 photos in two bins, 9 to a person, on two lines; and one of nowhere in particular."""
    tally = Tally(8, 1000, now=lambda: now)
    for i in range(40):
        of = {"mixed": 0.9, "rest": 0.1, "manual": 0.0} if i % 2 else {"rest": 0.97}
        choice = "mixed" if i % 2 else "rest"
        tally.count(answered(sorting(choice, probabilities=of)), Tags("tiny", str(i % 4)), MODEL)
    for _ in range(9):
        manual = sorting("manual", reasons=["hazard"], alert=True)
        tally.count(answered(manual), Tags("tiny", "0"), MODEL)
    tally.count(answered(), Tags(), MODEL)
    store = CompositionStore(url)
    batch = tally.take()
    assert batch is not None
    store.add(f"at {now}", batch)
    store.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    (folder / "sites").mkdir()
    write_site(folder / "sites")
    fill(f"sqlite:///{folder}/counts.db", datetime.now(UTC).timestamp())
    return folder


@pytest.fixture(scope="module")
def counting(models_dir: Path, folder: Path) -> Iterator[Server]:
    settings = {"tally_url": f"sqlite:///{folder}/counts.db", "sites_dir": folder / "sites"}
    with running(models_dir, **settings) as server:
        yield server


def watched(context: BrowserContext, errors: list[str]) -> Page:
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda m: errors.append(m.text) if "Content Security" in m.text else None)
    return page


@pytest.fixture(params=[DESK, PHONE], ids=["desk", "phone"])
def page(browser: Browser, counting: Server, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The report, open; it must raise no error."""
    context = browser.new_context(**request.param, base_url=counting.url, locale="de-DE")
    errors: list[str] = []
    page = watched(context, errors)
    page.goto("/report")
    expect(page.locator("#charts")).to_be_visible()
    choose_site(page)
    yield page
    context.close()
    assert not errors


def choose_site(page: Page) -> None:
    page.get_by_label("Site", exact=True).select_option("tiny")
    expect(page.get_by_role("status")).to_contain_text("49 photos")


def table(page: Page, name: str) -> list[list[str]]:
    """The rows of the table under a chart, which is opened for it."""
    page.get_by_text(f"{name}, as a table").click()
    rows = page.locator(f"details:has-text('{name}, as a table') tbody tr")
    expect(rows.first).to_be_visible()
    return [row.locator("th, td").all_text_contents() for row in rows.all()]


def test_it_says_what_came_and_where_it_went(page: Page) -> None:
    summary = page.get_by_role("status")
    expect(summary).to_contain_text("49 photos: 40 into bins, 9 to a person")
    expect(summary).to_contain_text("6.5% of what is in bins is expected to belong elsewhere")
    expect(summary).to_contain_text("9 alerts")
    shares = page.locator("#shares li")
    names = ["Wertstoff", "Restmüll", "Nachfragen"]  # the browser's language
    expect(shares.locator("b")).to_have_text(names)
    expect(shares.locator(".figure")).to_have_text(["41%", "41%", "18%"])
    fill = shares.first.locator(".track i").evaluate("e => getComputedStyle(e).backgroundColor")
    assert fill == "rgb(46, 125, 50)"  # the site's colour
    expect(page.locator("#manual li")).to_contain_text("Something hazardous may be there")


def test_contamination_is_told_in_words_and_with_what_it_is_worth(page: Page) -> None:
    bins = page.locator("#contamination li")
    expect(bins.nth(0)).to_contain_text("About 10 of 100 things in it are expected to belong")
    expect(bins.nth(1)).to_contain_text("About 3 of 100 things")
    expect(bins.nth(1)).to_contain_text("From 20 photos alone, that says little.")
    section = page.locator("section", has=page.locator("#contamination"))
    expect(section).to_contain_text("The model judges itself here")


def test_every_chart_has_its_table(page: Page) -> None:
    assert table(page, "Shares")[0] == ["Wertstoff", "20", "41%"]
    assert table(page, "Likely in the wrong bin") == [
        ["Wertstoff", "20", "2.0", "10%"],
        ["Restmüll", "20", "0.6", "3.0%"],
    ]
    assert table(page, "To a person") == [["Something hazardous may be there", "9", "100%", "18%"]]
    (row,) = table(page, "Over time")
    assert row[1:] == ["20", "20", "9"]
    chart = page.get_by_role("img", name=re.compile("^Photos by day and bin"))
    expect(chart.locator("rect.part")).to_have_count(3)


def test_site_line_and_time_can_be_chosen(page: Page) -> None:
    expect(page.get_by_label("Site", exact=True).locator("option")).to_have_text(
        ["all sites", "Zwei Tonnen", "nowhere in particular"]
    )
    page.get_by_label("Line", exact=True).select_option("1")
    expect(page.get_by_role("status")).to_contain_text("10 photos: 10 into bins")
    expect(page.get_by_label("Site", exact=True)).to_have_value("tiny")
    for time, unit in (("last 24 hours", "hour"), ("last 12 months", "day")):
        page.get_by_label("Time", exact=True).select_option(time)
        chart = page.get_by_role("img", name=re.compile(f"^Photos by {unit} and bin"))
        expect(chart).to_be_visible()
    expect(page.locator("#over-time-note")).to_contain_text("Days are those of UTC")
    page.get_by_label("Site", exact=True).select_option("nowhere in particular")
    page.get_by_label("Line", exact=True).select_option("all")
    expect(page.get_by_role("status")).to_contain_text("1 photo: 1 into bins")
    expect(page.locator("#shares b")).to_have_text(["Recyclable"])


def test_it_opens_on_all_sites_together(browser: Browser, counting: Server) -> None:
    context = browser.new_context(**DESK, base_url=counting.url, locale="de-DE")
    errors: list[str] = []
    page = watched(context, errors)
    page.goto("/report")
    expect(page.get_by_role("status")).to_contain_text("50 photos: 41 into bins, 9 to a person")
    expect(page.get_by_label("Site", exact=True)).to_have_value("all sites")
    names = ["Wertstoff", "Restmüll", "Recyclable", "Nachfragen"]
    expect(page.locator("#shares b")).to_have_text(names)
    expect(page.locator("#shares .figure")).to_have_text(["40%", "40%", "2.0%", "18%"])
    assert table(page, "Likely in the wrong bin")[2][:2] == ["Recyclable", "1"]
    page.get_by_label("Line", exact=True).select_option("not told")
    expect(page.get_by_role("status")).to_contain_text("1 photo: 1 into bins")
    context.close()
    assert not errors


def test_of_all_sites_bins_that_mean_the_same_are_one(browser: Browser, tmp_path: Path) -> None:
    write_site(tmp_path)
    write_site(tmp_path, {"site": "second"})
    name = {"en": "Rubbish", "de": "Restmüll"}
    bins = {"other": TINY["bins"]["rest"] | {"name": name}, "mixed": TINY["bins"]["mixed"]}
    superclasses = dict.fromkeys(TINY["superclasses"], "other")
    changes = {"site": "third", "bins": bins, "superclasses": superclasses, "costs.of": {}}
    write_site(tmp_path, changes | {"name": {"en": "Third", "de": "Dritte"}})
    tally = Tally(8, 1000, now=lambda: CLOCKS_GO_BACK)
    for site, choices in (("tiny", "mr"), ("second", "mr"), ("third", "o")):
        for choice in choices:
            bin = {"m": "mixed", "r": "rest", "o": "other"}[choice]
            of = {bin: 0.9, "manual": 0.1}
            tally.count(answered(sorting(bin, site=site, probabilities=of)), Tags(site), MODEL)
    url = f"sqlite:///{tmp_path}/counts.db"
    store = CompositionStore(url)
    batch = tally.take()
    assert batch is not None
    store.add("w", batch)
    store.close()
    file = tmp_path / "report.html"
    save_file(url, file, tmp_path, "--from", "2026-10-24", "--to", "2026-10-27")
    context, page = open_file(browser, file, locale="de-DE")
    expect(page.get_by_role("status")).to_contain_text("5 photos")
    rows = [row[:2] for row in table(page, "Shares")]
    assert rows == [
        ["Wertstoff", "2"],
        ["Restmüll (Zwei Tonnen)", "2"],
        ["Restmüll (Dritte)", "1"],
    ]
    context.close()


def test_it_is_saved_as_csv(page: Page) -> None:
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as CSV").click()
    lines = download.value.path().read_text().splitlines()
    assert lines[0].startswith("hour,site,line,bin,reason,photos,share")
    assert len(lines) == 6


def test_it_is_saved_by_days_where_hours_are_too_many_rows(
    browser: Browser, models_dir: Path, tmp_path: Path
) -> None:
    write_site(tmp_path)
    url = f"sqlite:///{tmp_path}/counts.db"
    now = datetime.now(UTC).timestamp()
    for hour in range(5):  # of six rows each
        fill(url, now - hour * HOUR_S)
    with running(models_dir, tally_url=url, sites_dir=tmp_path, report_max_rows=12) as server:
        context = browser.new_context(**DESK, base_url=server.url)
        page = context.new_page()
        page.goto("/report")
        expect(page.locator("#over-time-note")).to_contain_text("Days are those of UTC")
        with page.expect_download() as download:
            page.get_by_role("button", name="Save as CSV").click()
        lines = download.value.path().read_text().splitlines()
        assert lines[0].startswith("day,site,line,bin,reason,photos,share")
        assert len(lines) in (7, 13)  # two days, at midnight
        told = "Saved by days, those of UTC: by hours it would have too many rows."
        expect(page.locator("#csv-note")).to_have_text(told)
        expect(page.get_by_role("alert")).to_be_hidden()
        context.close()


def test_nothing_is_wider_than_the_screen_and_targets_are_large(page: Page) -> None:
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for target in page.locator("select:visible, button:visible, summary:visible").all():
        box = target.bounding_box()
        assert box is not None
        assert box["height"] >= 44


def test_it_can_be_used_with_the_keyboard_alone(page: Page) -> None:
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert [one for one in reached if one != "A"][:4] == ["period", "site", "line", "csv"]
    assert reached.count("SUMMARY") == 4
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")  # into the table, which scrolls
    expect(page.get_by_role("region", name="Photos by day and bin")).to_be_focused()


def test_text_has_the_contrast_of_wcag_aa_in_light_and_dark(page: Page) -> None:
    for summary in page.locator("summary").all():
        summary.click()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        assert lowest_contrast(page)[0] >= AA, lowest_contrast(page)


def test_where_keys_are_set_it_asks_for_one(
    browser: Browser, models_dir: Path, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "keys.toml").write_text(f'[clients]\nkiosk = "{digest_of("sesame")}"\n')
    settings = {
        "tally_url": f"sqlite:///{folder}/counts.db",
        "sites_dir": folder / "sites",
        "keys_file": tmp_path / "keys.toml",
    }
    with running(models_dir, **settings) as server:
        context = browser.new_context(**PHONE, base_url=server.url)
        page = context.new_page()
        page.goto("/")
        page.get_by_role("link", name="Report").click()
        field = page.get_by_label("This service asks for a key")
        expect(field).to_be_focused()
        expect(page.get_by_role("alert")).to_have_text("This service asks for a key.")
        field.fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("The service did not accept the key.")
        field.fill("sesame")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_contain_text("50 photos")
        expect(page.get_by_role("alert")).to_be_hidden()
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_parts_of_a_chart_can_be_told_apart(
    models_dir: Path, tmp_path: Path, browser: Browser, scheme: Literal["light", "dark"]
) -> None:
    """A site's blue bin beside the superclass that is blue by default; organic and a person."""
    url = f"sqlite:///{tmp_path}/counts.db"
    write_site(tmp_path, {"bins.mixed.colour": "#1f5fa8", "bins.rest.colour": "#4a4f55"})
    tally = Tally(8, 1000, now=lambda: datetime.now(UTC).timestamp())
    for choice in ("mixed", "rest"):
        tally.count(answered(sorting(choice, probabilities={choice: 1.0})), Tags("tiny"), MODEL)
    for superclass in ("recyclable", "organic", "residual", "hazardous"):
        tally.count(answered(superclass=superclass), Tags(), MODEL)
    tally.count(answered(superclass="organic", decision="manual"), Tags(), MODEL)
    store = CompositionStore(url)
    batch = tally.take()
    assert batch is not None
    store.add("once", batch)
    store.close()
    with running(models_dir, tally_url=url, sites_dir=tmp_path) as server:
        context = browser.new_context(base_url=server.url, color_scheme=scheme)
        page = context.new_page()
        page.goto("/report")
        dots = page.locator("#legend .dot")
        expect(dots).to_have_count(7)
        seen = [
            dot.evaluate("e => getComputedStyle(e).backgroundColor.match(/[\\d.]+/g).map(Number)")
            for dot in dots.all()
        ]
        for one, other in itertools.combinations(seen, 2):
            assert math.dist(one[:3], other[:3]) > 55, page.locator("#legend").inner_text()
        context.close()


def save_file(url: str, out: Path, sites: Path, *options: str) -> None:
    main = "from service.cli import main; main()"
    command = [sys.executable, "-c", main, "report", "--url", url, "--format", "html"]
    run = subprocess.run(
        [*command, "--out", str(out), *options],
        cwd=ROOT,
        env=os.environ | {"SUPERBIN_SITES_DIR": str(sites)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


def open_file(browser: Browser, file: Path, **options: Any) -> tuple[BrowserContext, Page]:
    context = browser.new_context(**DESK, **options)
    errors: list[str] = []
    page = watched(context, errors)
    context.set_offline(True)
    page.goto(file.as_uri())
    assert not errors
    return context, page


def test_a_saved_file_shows_the_same_without_a_server(
    browser: Browser, folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "report.html"
    save_file(f"sqlite:///{folder}/counts.db", file, folder / "sites")
    context, page = open_file(browser, file, locale="de-DE")
    expect(page.get_by_role("status")).to_contain_text("50 photos: 41 into bins, 9 to a person")
    choose_site(page)
    expect(page.get_by_role("status")).to_contain_text("49 photos: 40 into bins, 9 to a person")
    expect(page.locator("#shares b")).to_have_text(["Wertstoff", "Restmüll", "Nachfragen"])
    expect(page.get_by_label("Time", exact=True)).to_be_hidden()
    page.get_by_label("Site", exact=True).select_option("nowhere in particular")
    expect(page.get_by_role("status")).to_contain_text("1 photo")
    assert page.evaluate("document.styleSheets.length") == 1
    assert page.evaluate("getComputedStyle(document.querySelector('.panel')).display") == "grid"
    context.close()


@pytest.mark.parametrize(
    ("zone", "hours"),
    [
        ("UTC", ["00:00", "01:00", "02:00"]),
        ("Europe/Berlin", ["02:00", "02:00", "03:00"]),  # clocks go back: one comes twice
        ("Australia/Darwin", ["09:30", "10:30", "11:30"]),
    ],
)
def test_hours_are_utc_in_the_data_and_local_in_the_page(
    browser: Browser, tmp_path: Path, zone: str, hours: list[str]
) -> None:
    write_site(tmp_path)
    url, file = f"sqlite:///{tmp_path}/counts.db", tmp_path / "report.html"
    for hour in range(3):
        fill(url, CLOCKS_GO_BACK + hour * HOUR_S)
    save_file(url, file, tmp_path, "--from", "2026-10-25", "--to", "2026-10-25T03:00Z")
    context, page = open_file(browser, file, locale="de-DE", timezone_id=zone)
    assert [row[0].rpartition(" ")[2] for row in table(page, "Over time")] == hours
    expect(page.locator("#over-time-note")).to_contain_text(f"Times are those of {zone}")
    context.close()


def test_a_day_is_the_local_one_though_it_has_25_hours(browser: Browser, tmp_path: Path) -> None:
    write_site(tmp_path)
    url, file = f"sqlite:///{tmp_path}/counts.db", tmp_path / "report.html"
    for hour in (-3, -2, 22, 23):  # 23:00 on the day before, 00:00; 23:00, 00:00 on the day after
        fill(url, CLOCKS_GO_BACK + hour * HOUR_S)
    save_file(url, file, tmp_path, "--from", "2026-10-20", "--to", "2026-10-27")
    context, page = open_file(browser, file, locale="de-DE", timezone_id="Europe/Berlin")
    rows = [(row[0], row[1]) for row in table(page, "Over time")]
    assert rows == [("24.10.2026", "20"), ("25.10.2026", "40"), ("26.10.2026", "20")]
    context.close()
