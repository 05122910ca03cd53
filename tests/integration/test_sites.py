"""Sites over a socket: chosen by request or key, changed while serving, and refused when bad."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.keys import digest_of
from tests.integration.asking import JPEG, PHOTO, files, problem
from tests.integration.server import environment, running, spawn, until
from tests.tiny_site import TINY, write_site

SETTINGS = {"watch_s": 0.05}


@pytest.fixture(scope="module")
def sites_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sites")
    write_site(folder)
    write_site(folder, {"site": "other", "version": "7", "costs.manual": 0.0})
    return folder


@pytest.fixture(scope="module")
def served(models_dir: Path, sites_dir: Path) -> Iterator[httpx.Client]:
    with (
        running(models_dir, sites_dir=sites_dir) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        yield client


def sorting(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()["results"][0]["sorting"]
    return found


def ask(client: httpx.Client, query: str = "", **headers: str) -> httpx.Response:
    return client.post(f"/v1/classify{query}", content=PHOTO, headers=JPEG | headers)


def test_without_a_site_there_is_a_superclass_and_no_bin(served: httpx.Client) -> None:
    result = ask(served).json()["results"][0]
    assert result["sorting"] is None
    assert result["decision"] in ("sort", "manual")


def test_a_site_by_request_decides(served: httpx.Client) -> None:
    response = ask(served, "?site=other&line=4&camera=left")
    found = sorting(response)
    assert found["site"] == "other"
    assert found["version"] == "7"
    assert found["bin"] == "manual"  # a person costs nothing there
    assert found["reasons"]
    assert response.json()["results"][0]["decision"] == "manual"
    assert sum(found["probabilities"].values()) == pytest.approx(1.0, abs=1e-4)


def test_texts_are_in_the_language_that_is_liked_best(served: httpx.Client) -> None:
    asked = sorting(ask(served, "?site=other", **{"accept-language": "fr, de;q=0.5"}))
    assert (asked["language"], asked["name"]) == ("de", "Nachfragen")
    assert sorting(ask(served, "?site=other"))["name"] == "Ask us"


def test_every_photo_and_every_line_has_its_bin(served: httpx.Client) -> None:
    several = served.post("/v1/classify?site=tiny", files=files(PHOTO, b"none", PHOTO)).json()
    assert [("sorting" in one, "error" in one) for one in several["results"]] == [
        (True, False),
        (False, True),
        (True, False),
    ]
    lines = served.post(
        "/v1/classify?site=tiny", files=files(PHOTO), headers={"accept": "application/x-ndjson"}
    )
    assert lines.json()["result"]["sorting"]["site"] == "tiny"


def test_sites_are_listed_with_their_bins(served: httpx.Client) -> None:
    found = served.get("/v1/sites").json()
    assert found["default"] is None
    assert [one["site"] for one in found["sites"]] == ["other", "tiny"]
    assert [one["choice"] for one in found["sites"][0]["choices"]] == ["manual", "mixed", "rest"]
    assert found["sites"][1]["digest"] == sorting(ask(served, "?site=tiny"))["digest"]


def test_an_unknown_site_and_a_strange_tag_are_refused(served: httpx.Client) -> None:
    told = problem(ask(served, "?site=mars"), 404, "unknown_site")
    assert told["detail"] == "expected a site of other, tiny, got 'mars'"
    problem(ask(served, "?camera=a%20b"), 400, "malformed_tag")
    problem(ask(served, f"?line={'x' * 65}"), 400, "malformed_tag")
    problem(ask(served, "?site=../tiny"), 400, "malformed_tag")


def test_what_goes_where_is_counted(served: httpx.Client) -> None:
    before = counted(served, 'superbin_sorted_total{bin="manual",reason="')
    ask(served, "?site=other")
    after = counted(served, 'superbin_sorted_total{bin="manual",reason="')
    assert after == before + 1
    assert 'superbin_hazard_alerts_total{site="tiny"}' in served.get("/metrics").text


def counted(client: httpx.Client, start: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(start))


def test_a_changed_rule_is_in_force_without_a_restart(models_dir: Path, tmp_path: Path) -> None:
    write_site(tmp_path)
    with (
        running(models_dir, sites_dir=tmp_path, site="tiny", **SETTINGS) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        first = sorting(ask(client))
        assert (first["site"], first["version"]) == ("tiny", "1")
        write_site(tmp_path, {"version": "2", "costs.manual": 0.0})
        until(lambda: sorting(ask(client))["version"] == "2", "the new rules")
        changed = sorting(ask(client))
        assert changed["digest"] != first["digest"]
        assert changed["bin"] == "manual"

        write_site(tmp_path, {"version": "3", "costs.manual": 0.0, "items": {"batery": "manual"}})
        until(lambda: sorting(ask(client))["version"] == "3", "rules with a misspelt item")
        odd = [line for line in server.log_lines() if line["event"].startswith("items that")]
        assert [line["items"] for line in odd] == [["batery"]]

        (tmp_path / "tiny.yaml").write_text("site: !!bool maybe", encoding="utf-8")
        until(lambda: counted(client, 'superbin_site_loads_total{outcome="refused"}') >= 1, "it")
        assert sorting(ask(client))["version"] == "3"
        assert any(line["event"] == "site refused" for line in server.log_lines())

        (tmp_path / "tiny.yaml").unlink()
        write_site(tmp_path, {"site": "more"})
        until(lambda: ask(client, "?site=more").status_code == 200, "another site")
        assert sorting(ask(client))["version"] == "3"  # the default site's rules stay
        (tmp_path / "more.yaml").unlink()
        until(lambda: ask(client, "?site=more").status_code == 404, "it to be gone")


def test_rules_that_do_not_fit_the_model_do_not_replace_those_that_do(
    models_dir: Path, tmp_path: Path
) -> None:
    misspelt = dict(TINY["superclasses"])
    misspelt["organik"] = misspelt.pop("organic")
    write_site(tmp_path)
    with (
        running(models_dir, sites_dir=tmp_path, **SETTINGS) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        assert sorting(ask(client, "?site=tiny"))["version"] == "1"
        write_site(tmp_path, {"version": "2", "superclasses": misspelt})
        until(lambda: counted(client, 'superbin_site_loads_total{outcome="refused"}') == 1, "it")
        assert sorting(ask(client, "?site=tiny"))["version"] == "1"
        (line,) = [line for line in server.log_lines() if line["event"] == "site refused"]
        assert "where ['organic'] of the model belong" in line["error"]
        write_site(tmp_path, {"version": "3"})
        until(lambda: sorting(ask(client, "?site=tiny"))["version"] == "3", "the mended rules")


def test_a_key_has_a_site_and_a_request_may_name_another(
    models_dir: Path, sites_dir: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(
        f'clients.a = "{digest_of("a")}"\nclients.b = "{digest_of("b")}"\nsites.a = "other"\n'
    )
    settings = {"keys_file": keys, "sites_dir": sites_dir, "site": "tiny"}
    with (
        running(models_dir, **settings) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        assert sorting(ask(client, **{"x-api-key": "a"}))["site"] == "other"
        assert sorting(ask(client, **{"x-api-key": "b"}))["site"] == "tiny"
        assert sorting(ask(client, "?site=tiny", **{"x-api-key": "a"}))["site"] == "tiny"
        problem(ask(client, "?site=mars"), 401, "key_refused")  # tells strangers nothing
        problem(client.get("/v1/sites"), 401, "key_refused")


def test_an_item_that_the_model_does_not_know_is_logged(models_dir: Path, tmp_path: Path) -> None:
    write_site(tmp_path, {"items": {"newspapre": "mixed", "battery": "manual"}})
    with running(models_dir, sites_dir=tmp_path, site="tiny") as server:
        (line,) = [line for line in server.log_lines() if line["event"].startswith("items that")]
        assert (line["site"], line["items"]) == ("tiny", ["newspapre"])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"site": "mars"}, "SUPERBIN_SITE: expected a site of tiny, got 'mars'"),
        ({"site": "bad"}, "got 'bad', whose file is refused: bad.yaml: "),
        ({"site": "narrow"}, "SUPERBIN_SITE: narrow: expected under superclasses"),
    ],
)
def test_a_default_site_that_cannot_hold_stops_the_start(
    models_dir: Path, tmp_path: Path, settings: dict[str, str], told: str
) -> None:
    write_site(tmp_path)
    if settings["site"] == "bad":
        (tmp_path / "bad.yaml").write_text("site: bad")
    if settings["site"] == "narrow":
        fewer = {"recyclable": "mixed", "hazardous": "manual"}
        write_site(tmp_path, {"site": "narrow", "superclasses": fewer})
        told = told.replace("of tiny", "of narrow, tiny")
    server = spawn(environment(models_dir, sites_dir=tmp_path, **settings))
    assert server.ended() != 0
    assert told in "".join(server.stderr)


def test_a_folder_of_sites_that_is_not_there_stops_the_start(
    models_dir: Path, tmp_path: Path
) -> None:
    server = spawn(environment(models_dir, sites_dir=tmp_path / "none"))
    assert server.ended() != 0
    told = "SUPERBIN_SITES_DIR: expected a folder of site files, got "
    assert told in "".join(server.stderr)


def test_a_bad_site_beside_good_ones_is_no_outage(models_dir: Path, tmp_path: Path) -> None:
    write_site(tmp_path)
    (tmp_path / "bad.yaml").write_text("site: bad")
    with (
        running(models_dir, sites_dir=tmp_path, site="tiny") as server,
        httpx.Client(base_url=server.url) as client,
    ):
        assert sorting(ask(client))["site"] == "tiny"
        told = problem(ask(client, "?site=bad"), 404, "unknown_site")
        assert "whose file is refused: bad.yaml" in told["detail"]


def test_a_site_that_does_not_fit_the_model_says_so(models_dir: Path, tmp_path: Path) -> None:
    write_site(tmp_path, {"superclasses": {"recyclable": "mixed", "hazardous": "manual"}})
    with (
        running(models_dir, sites_dir=tmp_path, **SETTINGS) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        told = problem(ask(client, "?site=tiny"), 409, "site_unfit")
        assert "organic" in told["detail"]
        (line,) = [line for line in server.log_lines() if line["event"].startswith("site does")]
        assert line["level"] == "warning"
        assert "['residual', 'organic'] of the model" in line["error"]
        assert counted(client, 'superbin_site_loads_total{outcome="loaded"}') == 0
        write_site(
            tmp_path, {"version": "2", "superclasses": {"recyclable": "mixed"}, "hazards": {}}
        )
        until(lambda: counted(client, 'superbin_site_loads_total{outcome="loaded"}') == 1, "it")


def test_the_command_lists_and_checks_site_files(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from service.cli import app

    write_site(tmp_path)
    runner = CliRunner()
    good = runner.invoke(app, ["sites", "--sites-dir", str(tmp_path), "--json"])
    assert good.exit_code == 0
    assert '"site":"tiny"' in good.stdout
    bad = tmp_path / "bad.yaml"
    bad.write_text("schema: 1")
    both = runner.invoke(app, ["sites", "--sites-dir", str(tmp_path)])
    assert both.exit_code == 1
    assert "tiny" in both.stdout
    assert "bad.yaml: site: expected a value, got nothing" in both.stderr
    assert runner.invoke(app, ["sites", str(tmp_path / "tiny.yaml")]).exit_code == 0
    for name, folder in (("tiny", ["--sites-dir", str(tmp_path)]), ("german-household", [])):
        named = runner.invoke(app, ["sites", name, "--json", *folder])
        assert named.exit_code == 0, named.stderr
        assert f'"site":"{name}"' in named.stdout
    unknown = runner.invoke(app, ["sites", "german"])
    assert unknown.exit_code == 1
    assert re.search(r"a site file, or a name in .*german-household.*, got german", unknown.stderr)
    shown = runner.invoke(app, ["sites", "--kinds"]).stdout.splitlines()
    rows = [[cell.strip() for cell in line.split("│")] for line in shown]
    assert ["", "newspaper", "recyclable", "66", "paper", "papier", "fibre", ""] in rows
    assert ["", "battery", "hazardous", "61", "manual", "manual", "manual", ""] in rows
    odd = write_site(tmp_path, {"items": {"newspapre": "mixed"}})
    told = runner.invoke(app, ["sites", str(odd)])
    assert told.exit_code == 0
    assert "warning: tiny: refuse knows no newspapre (newspaper?)" in told.stderr
    assert runner.invoke(app, ["sites", "--sites-dir", str(tmp_path / "none")]).exit_code == 1


def test_the_command_refuses_a_site_that_does_not_fit_the_model(
    tmp_path: Path, models_dir: Path
) -> None:
    from typer.testing import CliRunner

    from service.cli import app

    misspelt = dict(TINY["superclasses"])
    misspelt["organik"] = misspelt.pop("organic")
    file = str(write_site(tmp_path, {"superclasses": misspelt}))
    told = CliRunner().invoke(app, ["sites", file])
    assert told.exit_code == 1
    assert f"{file} with refuse: tiny: expected under superclasses" in told.stderr
    assert "['organic'] of the model belong" in told.stderr
    assert "no model knows the superclass organik (organic?)" in told.stderr
    elsewhere = ["--models-dir", str(models_dir), "--model", "tiny/1"]
    assert CliRunner().invoke(app, ["sites", file, *elsewhere]).exit_code == 1
    good = str(write_site(tmp_path))
    assert CliRunner().invoke(app, ["sites", good, *elsewhere]).exit_code == 0
