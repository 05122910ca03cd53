"""The dashboards by themselves: that Grafana can lay them out, and finds them and their source."""

from __future__ import annotations

import math

import pytest
import yaml

from tests.integration.dashboards import BOARDS, labels_in, needs, panels_of
from tests.integration.server import ROOT

GRAFANA = ROOT / "docker/grafana"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_what_a_query_needs_is_found() -> None:
    query = 'sum by (le) (rate(a_bucket{x="y z"}[5m])) / on (w) group_left () (b > 1) or vector(0)'
    assert needs(query) == {"a_bucket": {"le", "x", "w"}, "b": {"w"}}
    assert needs("max without (q) (a) * ignoring (z) histogram_quantile(0.9, c)") == {
        "a": set(),
        "c": set(),
    }
    assert labels_in("{{site}}: {{ bin }}") == {"site", "bin"}


@pytest.mark.parametrize("name", BOARDS)
def test_panels_share_one_page_without_overlap(name: str) -> None:
    board = BOARDS[name]
    for panels in (board["panels"], *(one.get("panels", []) for one in board["panels"])):
        cells: list[tuple[int, int]] = []
        for panel in panels:
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= 24
            cells += [(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])]
        assert len(cells) == len(set(cells))
    ids = [panel["id"] for panel in board["panels"] + panels_of(board)]
    titles = [panel["title"] for panel in panels_of(board)]
    rows = [panel for panel in board["panels"] if panel["type"] == "row"]
    assert len(set(ids)) == len(rows) + len(titles)
    assert len(set(titles)) == len(titles)  # alerts name them


@pytest.mark.parametrize("name", BOARDS)
def test_panels_say_what_they_show_and_in_which_unit(name: str) -> None:
    for panel in panels_of(BOARDS[name]):
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["description"].endswith("."), panel["title"]
        assert defaults["unit"], panel["title"]
        assert defaults["noValue"], panel["title"]
        assert len({one["refId"] for one in panel["targets"]}) == len(panel["targets"])
        steps = defaults.get("thresholds", {"steps": [{"value": None}]})["steps"]
        values = [-math.inf if one["value"] is None else one["value"] for one in steps]
        assert values == sorted(set(values)), panel["title"]
        assert steps[0]["value"] is None, panel["title"]


def test_the_dashboards_lead_to_each_other_and_open_alike() -> None:
    assert set(BOARDS) == {"operator", "engineer"}
    for name, board in BOARDS.items():
        (other,) = set(BOARDS) - {name}
        (link,) = board["links"]
        assert link["url"] == f"/d/{BOARDS[other]['uid']}"
        assert (link["keepTime"], link["includeVars"]) == (True, True)
        assert (board["refresh"], board["time"]) == ("10s", {"from": "now-6h", "to": "now"})


def test_the_dashboards_are_provisioned_with_their_source() -> None:
    provisioning = GRAFANA / "provisioning"
    sources = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())
    dashboards = yaml.safe_load((provisioning / "dashboards/superbin.yml").read_text())
    (source,) = sources["datasources"]
    used = {
        one["datasource"]["uid"]
        for board in BOARDS.values()
        for panel in panels_of(board)
        for one in (panel, *panel["targets"], *board["templating"]["list"])
    }
    assert used == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"
    (provider,) = dashboards["providers"]
    mounts = dict(v.split(":")[:2] for v in COMPOSE["services"]["grafana"]["volumes"])
    assert mounts["./docker/grafana/dashboards"] == provider["options"]["path"]
    home = f"{provider['options']['path']}/operator.json"
    assert f"default_home_dashboard_path = {home}" in (GRAFANA / "grafana.ini").read_text()
