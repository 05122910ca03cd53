"""Answers that are counted while they are given, and reports of them over a socket."""

from __future__ import annotations

import csv
import io
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.composition.question import Question
from service.composition.store import CompositionStore
from service.keys import digest_of
from tests.integration.asking import files, problem
from tests.integration.server import environment, running, spawn, until
from tests.photo_factory import noise
from tests.postgres import find_pg_ctl, postgres
from tests.tiny_bundle import write_bundle
from tests.tiny_site import write_site

EVERY = ("site", "line", "camera", "model", "superclass", "bin", "reason")
QUICK = {"tally_interval_s": 0.05}


@pytest.fixture(scope="module")
def sites_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sites")
    write_site(folder)
    write_site(folder, {"site": "other", "costs.manual": 0.0})
    return folder


def url_in(folder: Path) -> str:
    return f"sqlite:///{folder}/composition.db"


def stored(url: str, *by: str) -> tuple[Counter[tuple[Any, ...]], int]:
    store = CompositionStore(url)
    groups, total = store.groups(Question(0, 2**40, by), 10_000)
    store.close()
    return Counter({tuple(one.of.values()): one.photos for one in groups}), total.photos


def scraped(client: httpx.Client) -> dict[str, Counter[tuple[str, ...]]]:
    """Counters that count already, each by the values of its labels in the order of their names."""
    found: dict[str, Counter[tuple[str, ...]]] = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            if sample.value and family.type == "counter":
                labels = tuple(value for _, value in sorted(sample.labels.items()))
                found.setdefault(family.name, Counter())[labels] += int(sample.value)
    return found


def written(client: httpx.Client) -> int:
    return scraped(client).get("superbin_tally_photos", Counter())["written",]


def classify(client: httpx.Client, query: str, *seeds: int) -> list[dict[str, Any]]:
    response = client.post(f"/v1/classify{query}", files=files(*map(noise, seeds)))
    assert response.status_code == 200, response.text
    results: list[dict[str, Any]] = response.json()["results"]
    return results


def test_the_tally_says_what_the_answers_and_the_metrics_said(
    models_dir: Path, sites_dir: Path, tmp_path: Path
) -> None:
    url = url_in(tmp_path)
    # Written at the end alone.
    settings = {"tally_url": url, "tally_interval_s": 3600, "sites_dir": sites_dir}
    with (
        running(models_dir, **settings) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        for query in ("", "?site=tiny&line=4", "?site=tiny&line=4&camera=left", "?site=other"):
            classify(client, query, *range(8))
            classify(client, query, 1)
        metrics = scraped(client)
        assert server.stop() == 0
    into, photos = stored(url, "bin", "reason", "site")
    assert photos == 36
    assert {key: n for key, n in into.items() if key[2]} == metrics["superbin_sorted"]
    decisions: Counter[tuple[Any, ...]] = Counter()
    for (superclass, choice), n in stored(url, "superclass", "bin")[0].items():
        decisions["manual" if choice == "manual" else "sort", "tiny/1", superclass] += n
    assert decisions == metrics["superbin_predictions"]
    lines, _ = stored(url, "line", "camera")
    assert lines == {("4", ""): 9, ("4", "left"): 9, ("", ""): 18}


@pytest.fixture(scope="module")
def asking(
    models_dir: Path, sites_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("counts")
    settings = QUICK | {"tally_url": url_in(folder), "sites_dir": sites_dir, "report_max_rows": 6}
    with (
        running(models_dir, **settings) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        classify(client, "?site=tiny&line=-1&camera=left", *range(6))
        classify(client, "?site=tiny&line=2", *range(4))
        classify(client, "", *range(2))
        until(lambda: written(client) == 12, "the counts to be written")
        yield client


def report(asking: httpx.Client, **query: Any) -> dict[str, Any]:
    response = asking.get("/v1/composition", params=query)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_a_report_counts_shares_and_estimates(asking: httpx.Client) -> None:
    found = report(asking)
    assert found["by"] == ["site", "bin"]
    assert found["total"]["photos"] == 12
    assert sum(row["photos"] for row in found["rows"]) == 12
    for site in (None, "tiny"):
        rows = [row for row in found["rows"] if row["site"] == site]
        assert sum(row["share"] for row in rows) == pytest.approx(1.0, abs=1e-5)
        assert all((row["contamination"] is None) == (row["bin"] == "manual") for row in rows)
    since = datetime.fromisoformat(found["since"])
    assert since.utcoffset() == datetime.now(UTC).utcoffset()
    assert (since.minute, since.second) == (0, 0)


def test_a_report_of_a_line_an_hour_and_a_camera(asking: httpx.Client) -> None:
    found = report(asking, site="tiny", line="-1", by=["hour", "camera"])
    assert {row["camera"] for row in found["rows"]} == {"left"}
    assert found["total"]["photos"] == 6
    assert all(row["hour"].endswith(":00:00Z") for row in found["rows"])
    assert report(asking, site="")["total"]["photos"] == 2
    assert report(asking, site="other")["rows"] == []  # which has rules, and sent nothing


def test_a_site_that_never_was_is_refused_with_those_that_were(asking: httpx.Client) -> None:
    answer = asking.get("/v1/composition", params={"site": "tinny"})
    told = problem(answer, 404, "unknown_site")["detail"]
    assert "expected one that has rules or was ever counted, other, tiny, got 'tinny'" in told
    assert "did you mean tiny?" in told


def test_columns_may_come_one_by_one_or_by_commas(asking: httpx.Client) -> None:
    found = report(asking, by="site, line")
    assert found["by"] == ["site", "line"]
    assert found == report(asking, by=["site", "line"])
    told = problem(asking.get("/v1/composition?by=site,colour"), 422, "unprocessable_entity")
    assert 'got "colour"' in told["detail"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("2026-11-01", "2026-11-01T00:00:00Z"),
        ("2026-11-01T06:00", "2026-11-01T06:00:00Z"),
        ("2026-11-01t06:00:00z", "2026-11-01T06:00:00Z"),
        ("2026-11-01T06:00+01:00", "2026-11-01T05:00:00Z"),
    ],
)
def test_times_are_what_they_are_to_the_command(
    asking: httpx.Client, typed: str, meant: str
) -> None:
    found = report(asking, **{"from": typed, "to": "2026-11-02"})
    assert (found["since"], found["until"]) == (meant, "2026-11-02T00:00:00Z")


@pytest.mark.parametrize("how", [{"format": "csv"}, {"accept": "text/csv"}])
def test_a_report_as_csv_has_no_formulas(asking: httpx.Client, how: dict[str, str]) -> None:
    headers = {"accept": how["accept"]} if "accept" in how else {}
    query: dict[str, Any] = {"by": ["site", "line"]} | ({} if headers else how)
    response = asking.get("/v1/composition", params=query, headers=headers)
    assert response.headers["content-type"].startswith("text/csv")
    assert response.headers["vary"] == "Accept"
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert [(row["site"], row["line"], row["photos"]) for row in rows] == [
        ("", "", "2"),
        ("tiny", "'-1", "6"),
        ("tiny", "2", "4"),
    ]


@pytest.mark.parametrize(
    ("query", "reason", "told"),
    [
        ({"by": "colour"}, "unprocessable_entity", "'hour', 'day', 'site'"),
        ({"from": "yesterday"}, "malformed_report", "yesterday"),
        ({"to": "1700000000"}, "malformed_report", "expected a time such as 2026-11-25 or"),
        ({"site": "a b"}, "unprocessable_entity", "a b"),
        ({"format": "xml"}, "unprocessable_entity", "'json' or 'csv'"),
        (
            {"from": "2026-11-02T00:00:00Z", "to": "2026-11-01T00:00:00Z"},
            "malformed_report",
            "expected from before to",
        ),
        ({"by": list(EVERY)}, "report_too_large", "expected at most 6 rows"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(
    asking: httpx.Client, query: dict[str, Any], reason: str, told: str
) -> None:
    found = problem(asking.get("/v1/composition", params=query), 422, reason)
    assert told in found["detail"]


def test_where_nothing_is_counted_there_is_no_report(client: httpx.Client) -> None:
    problem(client.get("/v1/composition"), 404, "tally_off")
    problem(client.get("/report"), 404, "tally_off")
    for page, told in (("/report", "SUPERBIN_TALLY_URL"), ("/review", "SUPERBIN_REVIEW_URL")):
        off = client.get(page, headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
        assert (off.status_code, off.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert told in off.text
        assert "<!--" not in off.text
    assert "Report" not in client.get("/").text


def test_a_report_needs_a_key_where_keys_are_set(models_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text(f'[clients]\nkiosk = "{digest_of("sesame")}"\n')
    settings = {"keys_file": tmp_path / "keys.toml", "tally_url": url_in(tmp_path)}
    with running(models_dir, **settings) as server, httpx.Client(base_url=server.url) as client:
        problem(client.get("/v1/composition"), 401, "key_refused")
        headers = {"X-API-Key": "sesame"}
        assert client.get("/v1/composition", headers=headers).json()["total"]["photos"] == 0


def test_a_kill_loses_what_was_counted_since_the_last_write_and_no_more(
    models_dir: Path, tmp_path: Path
) -> None:
    url = url_in(tmp_path)
    with running(models_dir, tally_url=url, **QUICK) as server:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            classify(client, "", *range(8))
            until(lambda: written(client) == 8, "the counts to be written")
            classify(client, "", *range(5))
        server.process.send_signal(signal.SIGKILL)
        server.ended()
    assert 8 <= stored(url)[1] <= 13


def test_workers_add_up_and_any_of_them_reports_for_all(tmp_path: Path) -> None:
    write_bundle(tmp_path / "models")
    url = url_in(tmp_path)
    with running(tmp_path / "models", workers=2, tally_url=url, **QUICK) as server:
        for seed in range(12):  # a connection each, so that both get some
            answer = httpx.post(f"{server.url}/v1/classify", files=files(noise(seed)), timeout=60)
            assert answer.status_code == 200
        with httpx.Client(base_url=server.url) as client:
            until(lambda: written(client) == 12, "the counts to be written")
            assert report(client)["total"]["photos"] == 12
        assert server.stop() == 0
    assert stored(url)[1] == 12


def test_a_database_that_is_away_at_the_start_gets_its_counts_later(models_dir: Path) -> None:
    pg_ctl = find_pg_ctl()
    if pg_ctl is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    with postgres(pg_ctl) as database:
        database.stop()
        away = True
        try:
            with (
                running(models_dir, tally_url=database.url, **QUICK) as server,
                httpx.Client(base_url=server.url, timeout=60) as client,
            ):
                classify(client, "?line=1", *range(3))
                problem(client.get("/v1/composition"), 503, "composition_unavailable")
                database.start()
                away = False
                until(lambda: written(client) == 3, "the counts to be written")
                assert report(client, by="line")["rows"][0]["line"] == "1"
        finally:
            if away:  # so that it can be stopped
                database.start()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://x/y", "expected SUPERBIN_TALLY_URL as sqlite:"),
        ("sqlite:////no/such/counts.db", "whose folder does not exist"),
    ],
)
def test_a_url_that_cannot_be_used_stops_the_start_in_one_line(
    models_dir: Path, url: str, told: str
) -> None:
    server = spawn(environment(models_dir, tally_url=url))
    assert server.ended() == 1
    (line,) = server.stderr
    assert told in line
