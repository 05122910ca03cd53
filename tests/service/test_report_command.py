"""`superbin report`: from the database and without a server."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service import cli
from service.composition.store import CompositionStore
from service.composition.tally import Tally
from service.tags import Tags
from tests.composition import MODEL, answered, sorting

runner = CliRunner()
WHEN = 1_700_000_000
TIMES = ["--from", "2023-11-14", "--to", "2023-11-16"]


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/counts.db"
    tally = Tally(8, 100, now=lambda: WHEN)
    for line in "112":
        tally.count(answered(sorting()), Tags("tiny", line), MODEL)
    tally.count(answered(superclass="</script><b>"), Tags(), MODEL)
    store = CompositionStore(url)
    batch = tally.take()
    assert batch is not None
    store.add("w", batch)
    store.close()
    return url


def report(url: str, *options: str) -> str:
    result = runner.invoke(cli.app, ["report", "--url", url, *TIMES, *options])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_table_has_a_row_for_each_group_and_the_whole_in_words(url: str) -> None:
    shown = report(url, "--by", "site,line")
    assert "contamination" in shown
    assert "share of all" in shown
    assert "share of site" in report(url, "--by", "site,bin")
    assert "4 photos: 4 into bins, 0 to a person; 0.6" in shown
    assert len([row for row in shown.splitlines() if "tiny" in row]) == 2


def test_json_and_csv_are_those_of_the_api(url: str) -> None:
    found = json.loads(report(url, "--format", "json", "--site", "tiny", "--line", "1"))
    assert found["total"]["photos"] == 2
    rows = list(csv.DictReader(io.StringIO(report(url, "--format", "csv", "--by", "day,bin"))))
    assert {row["bin"] for row in rows} == {"mixed", "</script><b>"}


def test_a_file_is_written_and_holds_no_foreign_markup(url: str, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    assert report(url, "--format", "html", "--out", str(out)) == ""
    text = out.read_text(encoding="utf-8")
    assert text.count("</script>") == 2
    assert "static/" not in text
    assert "import {" not in text
    assert "default-src 'none'" in text


def test_the_database_may_come_from_the_environment(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPERBIN_TALLY_URL", url)
    result = runner.invoke(cli.app, ["report", *TIMES, "--format", "json"])
    assert json.loads(result.stdout)["total"]["photos"] == 4


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--from", "soon"], "expected a time such as 2026-11-25 or"),
        (["--from", "2026-01-02", "--to", "2026-01-01"], "expected from before to"),
        (["--by", "colour"], "--by: expected some of hour, day, site"),
        (["--by", "bin", "--format", "html"], "an HTML file has groups of its own"),
        (["--site", "a b"], "--site: expected letters"),
        (["--site", "tinny"], "got 'tinny': did you mean tiny?"),
        (["--url", "sqlite:////no/such.db"], "there is no file /no/such.db"),
        (["--url", "mysql://x/y"], "expected SUPERBIN_TALLY_URL as sqlite:"),
    ],
)
def test_what_was_mistyped_is_told(url: str, options: list[str], told: str) -> None:
    result = runner.invoke(cli.app, ["report", "--url", url, *options])
    assert result.exit_code == 1
    assert told in result.stderr


def test_where_nothing_came_from_a_line_those_are_told_that_something_came_from(url: str) -> None:
    shown = report(url, "--line", "7").splitlines()
    assert shown[0].startswith("0 photos")
    assert shown[1] == "In this time photos came from: no site (no line), tiny (1, 2)"
    assert len(report(url, "--site", "german-household").splitlines()) == 2  # which has rules


def test_without_a_database_it_says_how_to_name_one() -> None:
    result = runner.invoke(cli.app, ["report"])
    assert result.exit_code == 1
    assert "expected --url or SUPERBIN_TALLY_URL" in result.stderr


def test_a_database_without_counts_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    for name in ("empty.db", "other.db"):
        with sqlite3.connect(tmp_path / name) as connection:
            if name == "other.db":
                connection.execute("CREATE TABLE mine (x)")
        before = (tmp_path / name).read_bytes()
        result = runner.invoke(cli.app, ["report", "--url", f"sqlite:///{tmp_path}/{name}", *TIMES])
        assert result.exit_code == 1
        assert "expected a composition store" in result.stderr
        assert (tmp_path / name).read_bytes() == before


def test_a_file_is_in_the_form_of_its_name(url: str, tmp_path: Path) -> None:
    beginnings = {"a.html": "<!doctype html>", "a.CSV": "site,bin", "a.json": "{", "a.txt": ""}
    for name, beginning in beginnings.items():
        assert report(url, "--out", str(tmp_path / name)) == ""
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert text.startswith("\ufeff") == name.endswith("CSV"), "for spreadsheets"
        assert text.lstrip("\ufeff \n").startswith(beginning), name
    assert "contamination" in (tmp_path / "a.txt").read_text()
    report(url, "--out", str(tmp_path / "b.html"), "--format", "csv")
    assert (tmp_path / "b.html").read_text(encoding="utf-8-sig").startswith("site,bin")
