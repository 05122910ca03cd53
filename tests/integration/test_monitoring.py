"""The panels, the alerts and the scrape, held against real servers and a real Prometheus."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.asking import JPEG, PHOTO
from tests.integration.dashboards import (
    ANY,
    BOARDS,
    Query,
    filled,
    labels_in,
    needs,
    panels_of,
    queries,
)
from tests.integration.plant import plant, prepare, review, work
from tests.integration.server import ROOT, running, until
from tests.integration.watching import (
    PROMETHEUS,
    ask,
    instance_of,
    prometheus,
    shown,
    tool,
    until_none,
)
from tests.tiny_bundle import write_bundle

DOCKER = ROOT / "docker"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
GPU_COMPOSE = yaml.safe_load((DOCKER / "compose.gpu.yml").read_text())
QUERIES = queries()
ALERTS = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
# Of NVIDIA's exporter, by its list of default counters; here is no GPU that it could run beside.
OF_THE_GPU = {
    f"DCGM_FI_DEV_{name}": {"gpu", "UUID", "device", "modelName", "Hostname", "job", "instance"}
    for name in (
        "FB_FREE",
        "FB_USED",
        "GPU_TEMP",
        "GPU_UTIL",
        "MEM_COPY_UTIL",
        "POWER_USAGE",
        "SM_CLOCK",
        "XID_ERRORS",
    )
}
GPU_ROW = "GPU (not yet run on one)"
# Panels that show nothing where there is no site, no review, no drift reference and no shadow.
WITHOUT_A_PLANT = {
    "operator": {
        "Hazard alerts": "no site",
        "Highest drift": "no drift reference",
        "Waiting for review": "no review store",
        "Alerts that fire now": "none fires",
        "Photos a minute by bin": "no site",
        "Share by bin": "no site",
        "By bin, in the time shown": "no site",
        "Share to a person by site": "no site",
        "Why, photos a minute": "no site",
        "Why, in the time shown": "no site",
        "Hazard alerts in 10 minutes": "no site",
        "Drift by site, line and camera": "no drift reference",
        "Confidence against the usual": "no drift reference",
        "Cameras": "no drift reference",
        "Review queue": "no review store",
        "Reviewed": "no review store",
        "Agreement of reviewers": "no review store",
        "Feedback in an hour": "no review store",
    },
    "engineer": {
        "Alerts that fire now": "none fires",
        "Agreement of the shadow": "no shadow",
        "Shadow, photos a second": "no shadow",
        "Put aside, photos a minute": "no review store",
        "Removed, photos an hour": "no review store",
        "Counted for reports, photos a minute": "no database for reports",
    },
}
# Metrics that are on no panel: none.
NOT_SHOWN: dict[str, str] = {}  # a reason for each


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_names_a_panel_that_there_is(rule: dict[str, Any]) -> None:
    description = " ".join(rule["annotations"]["description"].split())
    (seen,) = re.findall(r'See "([^"]+)" on the dashboard "([^"]+)"', description)
    shown = {(p["title"], b["title"]) for b in BOARDS.values() for p in panels_of(b)}
    assert seen in shown


def test_promtool_accepts_the_configuration() -> None:
    subprocess.run([tool("promtool"), "check", "config", PROMETHEUS / "prometheus.yml"], check=True)


def test_alerts_fire_when_they_should_and_only_then() -> None:
    tests = Path(__file__).with_name("alerts.yml")
    subprocess.run([tool("promtool"), "test", "rules", tests], check=True)


def test_the_gpus_exporter_is_scraped_where_compose_starts_it() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    (job,) = [one for one in config["scrape_configs"] if one["job_name"] == "gpu"]
    assert job["file_sd_configs"] == [{"files": ["/etc/targets/*.yml"]}]
    assert GPU_COMPOSE["services"]["prometheus"]["volumes"] == [
        "./docker/prometheus/targets/gpu:/etc/targets:ro"
    ]
    (group,) = yaml.safe_load((PROMETHEUS / "targets/gpu/gpu.yml").read_text())
    (target,) = group["targets"]
    assert target.split(":")[0] in GPU_COMPOSE["services"]


def test_without_the_gpu_there_is_a_folder_to_watch_and_no_target() -> None:
    # Prometheus logs an error where the folder is missing.
    folder = "./docker/prometheus/targets/cpu:/etc/targets:ro"
    assert folder in COMPOSE["services"]["prometheus"]["volumes"]
    (listed,) = (PROMETHEUS / "targets/cpu").glob("*.yml")
    assert yaml.safe_load(listed.read_text()) == []


@dataclass(frozen=True)
class Watched:
    """A Prometheus that watches a plant and, beside it, a server with nothing but a model."""

    api: httpx.Client
    plant: str  # instances, as Prometheus calls them
    plain: str
    at_work: httpx.Client
    beside: httpx.Client

    def work(self) -> None:
        """Rates need samples from two scrapes, with photos between them."""
        work(self.at_work)
        _classify(self.beside)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    bare = tmp_path_factory.mktemp("bare")
    write_bundle(bare)
    with (
        plant(tmp_path_factory.mktemp("plant")) as (at_work, asking),
        running(bare, sites_dir=tmp_path_factory.mktemp("no-sites")) as plain,
        httpx.Client(base_url=plain.url, timeout=30) as beside,
        prometheus([at_work, plain], tmp_path_factory.mktemp("prometheus")) as api,
    ):
        prepare(asking)
        found = Watched(api, instance_of(at_work), instance_of(plain), asking, beside)
        found.work()
        review(asking)
        until(lambda: len(ask(api, "superbin_ready")) == 2, "the first scrapes")
        yield found


def _classify(client: httpx.Client) -> None:
    for content, status in ((PHOTO, 200), (PHOTO[:200], 422)):
        answer = client.post("/v1/classify", content=content, headers=JPEG)
        assert answer.status_code == status


def test_every_panel_shows_something(watched: Watched) -> None:
    left = {query for query in QUERIES if query.row != GPU_ROW}
    legends: dict[Query, set[str]] = {}

    def still_empty() -> set[str]:
        watched.work()
        for query in sorted(left, key=str):
            found = shown(watched.api, filled(query.expr, _exactly(watched.plant)))
            if found:
                legends[query] = set[str]().union(*(one["metric"] for one in found))
                left.discard(query)
        return {str(query) for query in left}

    until_none(still_empty)
    for query, labels in legends.items():
        assert labels_in(query.legend) <= labels, str(query)
    for query in QUERIES:  # these have nothing to show, and nothing wrong with them
        if query.row == GPU_ROW:
            assert ask(watched.api, filled(query.expr)) == []


def test_without_sites_review_drift_or_shadow_some_panels_are_empty_and_none_fails(
    watched: Watched,
) -> None:
    def surprises() -> set[str]:
        watched.work()
        return {
            f"{query} is {'empty' if not found else 'not empty'}"
            for query in QUERIES
            if query.row != GPU_ROW
            and bool(found := shown(watched.api, filled(query.expr, _exactly(watched.plain))))
            == (query.panel in WITHOUT_A_PLANT[query.board])
        }

    until_none(surprises)


@pytest.mark.parametrize("query", [*QUERIES, *(rule["alert"] for rule in ALERTS)], ids=str)
def test_queries_need_no_metric_and_no_label_that_there_is_not(
    query: Query | str, watched: Watched
) -> None:
    if isinstance(query, Query):
        wanted = needs(filled(query.expr))
    else:
        wanted = needs(next(rule["expr"] for rule in ALERTS if rule["alert"] == query))
    assert wanted
    for metric, labels in wanted.items():
        until(lambda metric=metric: labels_of(watched.api, metric), f"{metric} to be scraped")
        assert labels <= labels_of(watched.api, metric)


def labels_of(api: httpx.Client, metric: str) -> set[str]:
    """That any of its series has; empty where there is no series."""
    found = OF_THE_GPU.get(metric) or set[str]().union(*(one["metric"] for one in ask(api, metric)))
    return found - {"__name__"}


def test_every_metric_is_on_a_panel(watched: Watched) -> None:
    asked = {metric for query in QUERIES for metric in needs(filled(query.expr))}
    scrape = httpx.get(f"http://{watched.plant}/metrics").text
    families = list(text_string_to_metric_families(scrape))
    assert len(families) > 30
    assert {one.name for one in families if not asked & _series_of(one)} == set(NOT_SHOWN)


def _series_of(family: Metric) -> set[str]:
    """Names that a family's samples have, also where it has none yet."""
    ends = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
    return {family.name + end for end in ends.get(family.type, [""])}


def test_variables_offer_what_there_is_and_panels_use_them(watched: Watched) -> None:
    expected = {"instance": {watched.plant, watched.plain}, "site": {"tiny", "wary"}}
    for board in BOARDS.values():
        text = "".join(one["expr"] for panel in panels_of(board) for one in panel["targets"])
        for variable in board["templating"]["list"]:
            name, query = variable["name"], variable["query"]["query"]
            match = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
            assert match
            found = {one["metric"][match[2]] for one in ask(watched.api, filled(match[1]))}
            assert found >= expected[name]
            assert f'{name}=~"${name}"' in text
            assert variable["allValue"] == ANY


def test_prometheus_scrapes_and_judges(watched: Watched) -> None:
    for up in ask(watched.api, 'up{job="superbin"}'):
        assert up["value"][1] == "1"
    rules = watched.api.get("/api/v1/rules").json()["data"]["groups"][0]["rules"]
    assert {rule["name"]: rule["health"] for rule in rules} == {
        rule["alert"]: "ok" for rule in ALERTS
    }


def _exactly(instance: str) -> str:
    return re.escape(instance).replace("\\", "\\\\")
