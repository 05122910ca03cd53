"""Counts of answers: in memory, over SQLite and a real PostgreSQL, and what is reported of them."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from service.composition.answer import (
    By,
    CompositionUnavailable,
    ReportMalformed,
    ReportTooLarge,
    SiteUncounted,
)
from service.composition.formats import as_csv, as_json, harmless
from service.composition.question import Question
from service.composition.recorder import Recorder
from service.composition.report import COLUMNS, answer, ask
from service.composition.schema import counts
from service.composition.store import CompositionStore
from service.composition.tally import HOUR_S, OTHER, Count, Key, Tally
from service.metrics import Metrics
from service.review.opening import open_store
from service.review.records import DAY_S, StoreError
from service.schemas import Doubt
from service.tags import UNTOLD, Tags
from tests.composition import HALL, MODEL, answered, sorting
from tests.integration.server import until
from tests.postgres import Postgres, fresh_database

HOUR = 1_700_000_000 // 3600 * 3600
NOW = HOUR + 100.0


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/counts.db"
    return fresh_database(request.getfixturevalue("database_server"))


@pytest.fixture
def store(url: str) -> Iterator[CompositionStore]:
    opened = CompositionStore(url, lambda: NOW)
    yield opened
    opened.close()


def new_tally(**changes: Any) -> Tally:
    return Tally(**{"max_places": 8, "max_keys": 1000, "now": lambda: NOW} | changes)


def counted(tally: Tally) -> dict[Key, Count]:
    batch = tally.take()
    assert batch is not None
    tally.wrote()
    return batch.counts


def write(store: CompositionStore, tally: Tally, writer: str = "w") -> None:
    batch = tally.take()
    assert batch is not None
    assert store.add(writer, batch)
    tally.wrote()


def everything(*by: str) -> Question:
    return Question(0, 2**40, by)


def test_an_answer_is_counted_under_its_hour_place_and_bin() -> None:
    tally = new_tally()
    tally.count(answered(sorting()), HALL, MODEL)
    tally.count(answered(sorting()), HALL, MODEL)
    key = Key(HOUR, "tiny", "1", "left", MODEL, "recyclable", "mixed", "")
    assert counted(tally) == {key: Count(2, pytest.approx(0.2), 0)}
    assert tally.take() is None


def test_what_goes_to_a_person_is_in_no_bin_and_has_its_first_reason() -> None:
    tally = new_tally()
    manual = sorting("manual", reasons=["hazard", "threshold"], alert=True)
    tally.count(answered(manual), UNTOLD, MODEL)
    ((key, count),) = counted(tally).items()
    assert (key.bin, key.reason, key.line, key.camera) == ("manual", "hazard", "", "")
    assert count == Count(1, 0.0, 1)


def test_no_bin_has_fewer_than_no_wrong_things() -> None:
    tally = new_tally()
    sure = {"mixed": 1.000001, "rest": 0.0, "manual": 0.0}
    tally.count(answered(sorting(probabilities=sure)), HALL, MODEL)
    assert [one.expected_wrong for one in counted(tally).values()] == [0.0]


def test_without_a_site_the_superclass_is_the_bin() -> None:
    tally = new_tally()
    tally.count(answered(), UNTOLD, MODEL)
    tally.count(answered(decision="manual"), UNTOLD, MODEL)
    doubt = Doubt(reason="blurred", detail="", measure=0.0, limit=1.0)
    tally.count(answered(decision="manual", doubts=[doubt]), UNTOLD, MODEL)
    found = {(key.site, key.bin, key.reason): one for key, one in counted(tally).items()}
    assert found == {
        ("", "recyclable", ""): Count(1, 0.25, 0),
        ("", "manual", "threshold"): Count(1, 0.0, 0),
        ("", "manual", "doubt"): Count(1, 0.0, 0),
    }


def test_places_beyond_the_limit_are_counted_as_other() -> None:
    tally = new_tally(max_places=2)
    for line in range(50):
        tally.count(answered(sorting()), Tags("tiny", str(line), "c"), MODEL)
    tally.count(answered(sorting()), Tags("tiny"), MODEL)
    found = {(key.line, key.camera): one.photos for key, one in counted(tally).items()}
    assert found == {("0", "c"): 1, ("1", "c"): 1, (OTHER, OTHER): 48, ("", ""): 1}
    tally.know([])  # nothing came for long: there is room
    tally.count(answered(sorting()), Tags("tiny", "new"), MODEL)
    assert [key.line for key in counted(tally)] == ["new"]


def test_keys_that_wait_are_bounded_and_what_is_dropped_is_known() -> None:
    tally = new_tally(max_keys=3, max_places=100)
    for line in "abcde":
        tally.count(answered(sorting()), Tags("tiny", line), MODEL)
    tally.count(answered(sorting()), Tags("tiny", "a"), MODEL)
    assert tally.take_dropped() == 2
    assert tally.take_dropped() == 0
    first = tally.take()
    assert first is not None
    assert first.photos == 4
    tally.count(answered(sorting()), Tags("tiny", "a"), MODEL)  # while that is not written
    assert tally.take_dropped() == 1
    assert tally.take() is first
    tally.wrote()
    assert tally.take() is None


def test_counts_add_up_and_a_batch_is_added_once(store: CompositionStore) -> None:
    tally = new_tally()
    tally.count(answered(sorting()), HALL, MODEL)
    batch = tally.take()
    assert batch is not None
    assert store.add("w", batch)
    assert not store.add("w", batch)  # nobody heard that it arrived
    tally.wrote()
    tally.count(answered(sorting()), HALL, MODEL)
    write(store, tally)
    write_other = new_tally()
    write_other.count(answered(sorting()), HALL, MODEL)
    write(store, write_other, "another")
    ((group,), total) = store.groups(everything("bin"), 10)
    assert (group.of, group.photos) == ({"bin": "mixed"}, 3)
    assert group.expected_wrong == pytest.approx(0.3)
    assert total.photos == 3


def test_processes_that_add_at_once_lose_nothing(url: str) -> None:
    batches = 40
    command = [sys.executable, "-m", "tests.composition", url]
    root = Path(__file__).parents[2]
    running = [
        subprocess.Popen([*command, name, str(batches)], cwd=root) for name in ("one", "two")
    ]
    assert [process.wait(60) for process in running] == [0, 0]
    store = CompositionStore(url)
    groups, total = store.groups(everything("line"), 10)
    store.close()
    assert [(one.of["line"], one.photos) for one in groups] == [
        (line, 2 * batches) for line in "123"
    ]
    assert total.expected_wrong == pytest.approx(0.1 * 6 * batches)


def test_old_hours_are_removed_and_quiet_places_forgotten(url: str) -> None:
    store = CompositionStore(url, lambda: NOW)
    for days, line in ((0.0, "now"), (40.0, "before"), (500.0, "long-ago")):
        tally = new_tally(now=lambda days=days: NOW - days * DAY_S)
        tally.count(answered(sorting()), Tags("tiny", line), MODEL)
        write(store, tally, line)
    assert store.places(30.0) == [("tiny", "now", "")]
    assert store.prune(0.0) == 0
    assert store.prune(400.0) == 0  # a clock that leapt 40 days would look like this
    tally = new_tally(now=lambda: NOW - 2 * DAY_S)
    tally.count(answered(sorting()), Tags("tiny", "now"), MODEL)
    write(store, tally, "again")
    assert store.prune(400.0) == 1
    groups, _ = store.groups(everything("line"), 10)
    assert [one.of["line"] for one in groups] == ["before", "now"]
    store.close()


def test_it_may_lie_beside_the_review_store(tmp_path: Path, url: str) -> None:
    with open_store(url, str(tmp_path / "photos")) as review:
        store = CompositionStore(url)
        store.prepare()
        assert review.counts().photos == 0
        store.close()


def test_tables_of_another_version_are_refused(url: str) -> None:
    store = CompositionStore(url)
    store.prepare()
    with store._database.write() as connection:
        connection.execute(sa.text("UPDATE composition_meta SET value = '99'"))
    store.close()
    other = CompositionStore(url)
    with pytest.raises(StoreError, match="composition store of version 1, got 99"):
        other.prepare()
    other.close()


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ("mysql://x/y", "expected SUPERBIN_TALLY_URL as sqlite:"),
        ("sqlite:////no/such/counts.db", "whose folder does not exist"),
        ("nonsense", "expected SUPERBIN_TALLY_URL"),
    ],
)
def test_a_url_that_cannot_be_used_is_told(bad: str, told: str) -> None:
    with pytest.raises(StoreError, match=told):
        CompositionStore(bad)


def test_a_database_that_is_away_gets_its_counts_later(database_server: Postgres) -> None:
    url = fresh_database(database_server)
    tally, store, measures = new_tally(), CompositionStore(url), Metrics()
    store.prepare()
    database_server.stop()
    try:
        tally.count(answered(sorting()), HALL, MODEL)
        batch = tally.take()
        assert batch is not None
        with pytest.raises(CompositionUnavailable, match="composition database does not answer"):
            store.add("w", batch)
        recorder = Recorder(store, tally, 0.01, 0.0, measures)
        tally.count(answered(sorting()), Tags("tiny", "2"), MODEL)
    finally:
        database_server.start()
    until(lambda: tally.take() is None, "the thread to write")
    recorder.close()
    store = CompositionStore(url)
    _, total = store.groups(everything(), 10)
    store.close()
    assert total.photos == 2
    assert b'superbin_tally_photos_total{outcome="written"} 2.0' in measures.scrape()


def test_what_cannot_be_written_at_the_end_is_told(tmp_path: Path) -> None:
    store = CompositionStore(f"sqlite:///{tmp_path}/counts.db")
    tally, measures = new_tally(), Metrics()
    store._database.close()
    (tmp_path / "counts.db").mkdir()  # nothing that can be opened
    recorder = Recorder(store, tally, 3600.0, 0.0, measures)
    recorder.count(answered(sorting()), HALL, MODEL)
    recorder.close()
    assert b'superbin_tally_photos_total{outcome="lost"} 1.0' in measures.scrape()


def seeded(store: CompositionStore) -> CompositionStore:
    """Two hours; at the first 3 into mixed and 1 to a person, at the second 1 without tags."""
    tally = new_tally()
    for _ in range(3):
        tally.count(answered(sorting()), HALL, MODEL)
    manual = sorting("manual", reasons=["hazard"], alert=True)
    tally.count(answered(manual), HALL, MODEL)
    write(store, tally)
    later = new_tally(now=lambda: NOW + 3600)
    later.count(answered(), UNTOLD, "tiny/2")
    write(store, later, "later")
    return store


def test_a_report_has_shares_and_contamination(store: CompositionStore) -> None:
    found = answer(seeded(store), everything("hour", "site", "bin"), 100)
    told = [(row.hour, row.site, row.bin, row.share, row.contamination) for row in found.rows]
    first = datetime.fromtimestamp(HOUR, UTC)
    assert told == [
        (first, "tiny", "manual", 0.25, None),
        (first, "tiny", "mixed", 0.75, pytest.approx(0.1)),
        (first + timedelta(hours=1), None, "recyclable", 1.0, 0.25),
    ]
    assert found.total.photos == 5
    assert (found.total.manual, found.total.alerts) == (1, 1)
    assert found.total.contamination == pytest.approx((0.3 + 0.25) / 4)


@pytest.mark.parametrize(
    ("by", "of", "shares"),
    [
        (["site"], [], [0.2, 0.8]),
        (["hour"], [], [0.8, 0.2]),
        (["hour", "site"], ["hour"], [1.0, 1.0]),
        (["site", "model"], [], [0.2, 0.8]),
        (["site", "bin"], ["site"], [1.0, 0.25, 0.75]),
        (["bin", "superclass"], [], [0.2, 0.6, 0.2]),
    ],
)
def test_shares_add_up_in_what_the_report_says(
    store: CompositionStore, by: list[By], of: list[By], shares: list[float]
) -> None:
    found = answer(seeded(store), everything(*by), 100)
    assert found.share_of == of
    assert [row.share for row in found.rows] == shares


@pytest.mark.parametrize("column", COLUMNS)
def test_a_report_by_any_column_adds_up(store: CompositionStore, column: Any) -> None:
    found = answer(seeded(store), everything(column), 100)
    assert sum(row.photos for row in found.rows) == found.total.photos == 5
    assert all(column in row.model_fields_set for row in found.rows)


def test_days_are_utc_days(store: CompositionStore) -> None:
    midnight = datetime(2026, 3, 29, tzinfo=UTC)  # clocks change in Europe, not here
    for hour in range(-1, 25):
        tally = new_tally(now=lambda hour=hour: midnight.timestamp() + 3600 * hour + 1)
        tally.count(answered(sorting()), HALL, MODEL)
        write(store, tally, str(hour))
    found = answer(store, everything("day"), 100)
    days = [(row.day, row.photos) for row in found.rows]
    day = timedelta(days=1)
    assert days == [(midnight - day, 1), (midnight, 24), (midnight + day, 1)]


def test_a_report_can_be_of_one_site_and_line_or_of_what_has_none(store: CompositionStore) -> None:
    seeded(store)
    for site, line, photos in (("tiny", None, 4), ("tiny", "1", 4), ("", None, 1), ("tiny", "", 0)):
        _, total = store.groups(Question(0, 2**40, ("bin",), site, line), 10)
        assert total.photos == photos


def test_a_report_of_too_many_rows_is_refused(store: CompositionStore) -> None:
    with pytest.raises(ReportTooLarge, match="at most 2 rows, and by hour, site, bin"):
        answer(seeded(store), everything("hour", "site", "bin"), 2)
    assert len(answer(store, everything("hour", "site", "bin"), 3).rows) == 3


def test_a_site_that_is_gone_can_be_asked_for_and_one_that_never_was_cannot(
    store: CompositionStore,
) -> None:
    seeded(store)
    long_ago = replace(everything("bin"), until=HOUR - 10 * HOUR_S)
    for site, rules in (("tiny", ()), ("new", ("new",)), ("", ())):
        found = answer(store, replace(long_ago, site=site), 100, rules)
        assert (found.total.photos, found.places) == (0, [])
    told = "expected one that has rules or was ever counted, new, tiny, got 'tiyn': did you mean ti"
    with pytest.raises(SiteUncounted, match=told):
        answer(store, replace(long_ago, site="tiyn"), 100, ["new"])


def test_where_nothing_came_from_a_place_those_are_told_that_something_came_from(
    store: CompositionStore,
) -> None:
    seeded(store)
    nothing = answer(store, replace(everything("bin"), site="tiny", line="9"), 100)
    places = {(one.site, one.line) for one in nothing.places}
    assert ("tiny", "1") in places
    assert len(places) == len(nothing.places)
    assert "places" in json.loads(as_json(nothing))
    some = answer(store, replace(everything("bin"), site="tiny"), 100)
    assert "places" not in json.loads(as_json(some))


def test_nothing_known_is_an_empty_report(store: CompositionStore) -> None:
    found = answer(store, everything("bin"), 10)
    assert (found.total.photos, found.total.contamination, found.rows) == (0, None, [])


def test_a_question_is_about_whole_hours_whatever_the_zone() -> None:
    zone = timezone(timedelta(hours=5, minutes=30))
    asked = ask(
        datetime(2026, 3, 29, 1, 20, tzinfo=UTC),
        datetime(2026, 3, 29, 8, 0, 1, tzinfo=zone),
        ["bin", "hour", "bin"],
        None,
        None,
    )
    assert datetime.fromtimestamp(asked.since, UTC) == datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert datetime.fromtimestamp(asked.until, UTC) == datetime(2026, 3, 29, 3, tzinfo=UTC)
    assert asked.by == ("bin", "hour")


@given(st.datetimes(timezones=st.timezones()), st.datetimes(timezones=st.timezones()))
def test_any_two_times_are_a_question_or_a_clear_refusal(since: datetime, until: datetime) -> None:
    if until - since >= timedelta(seconds=1):
        asked = ask(since, until, ["hour"], None, None)
        assert asked.since < asked.until
    elif until < since:
        with pytest.raises(ReportMalformed, match="expected from before to"):
            ask(since, until, ["hour"], None, None)


def test_csv_reads_back_and_json_leaves_out_what_was_not_asked(store: CompositionStore) -> None:
    found = answer(seeded(store), everything("hour", "site", "bin", "reason"), 100)
    rows = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert rows[0]["hour"] == datetime.fromtimestamp(HOUR, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert (rows[0]["bin"], rows[0]["reason"], rows[0]["contamination"]) == ("manual", "hazard", "")
    assert (rows[2]["site"], rows[2]["photos"]) == ("", "1")
    assert '"camera"' not in as_json(found)
    assert '"site":null' in as_json(found)


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-2", "@x", "\tx", "\rx", "\nx"])
def test_no_cell_is_a_formula(store: CompositionStore, cell: str) -> None:
    assert harmless(cell) == f"'{cell}"
    tally = new_tally()
    tally.count(answered(superclass=cell), UNTOLD, MODEL)
    tally.count(answered(sorting()), Tags("tiny", "-1", "--"), MODEL)
    write(store, tally)
    found = answer(store, everything("superclass", "line", "camera"), 10)
    cells = [cell for row in csv.reader(io.StringIO(as_csv(found))) for cell in row]
    assert f"'{cell}" in cells
    assert {"'-1", "'--"} <= set(cells)
    assert not [one for one in cells if one.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]


def test_hours_are_stored_in_utc(store: CompositionStore) -> None:
    seeded(store)
    with store._database.read() as connection:
        hours = set(connection.scalars(sa.select(counts.c.hour)))
    assert hours == {HOUR, HOUR + 3600}
