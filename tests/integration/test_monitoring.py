"""The dashboard, the alerts and the scrape, held against the server and a real Prometheus."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.server import ROOT, Server, until
from tests.photo_factory import noise

DOCKER = ROOT / "docker"
PROMETHEUS = DOCKER / "prometheus"
OF_PROMETHEUS = {"up"}  # made by the scrape itself
OPERATORS = {"and", "or", "unless", "bool", "offset"}

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DASHBOARD = json.loads((DOCKER / "grafana/dashboards/superbin.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
PANEL_QUERIES = {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in PANELS
    for target in panel["targets"]
}
ALERT_QUERIES = {
    rule["alert"]: rule["expr"]
    for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}


def tool(name: str) -> str:
    found = shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed; on Debian: apt-get install prometheus")
    return found


def metrics_in(query: str) -> set[str]:
    """The metric names in a PromQL expression."""
    query = re.sub(r'"[^"]*"', "", query)
    query = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(by|without|on|ignoring)\s*\([^)]*\)", " ", query)
    return set(re.findall(r"(?<![\w:.])[a-zA-Z_:][\w:]*\b(?!\s*\()", query)) - OPERATORS


@pytest.fixture(scope="module")
def busy_server(server: Server, client: httpx.Client) -> Server:
    """A server that has classified photos and refused one, so that every metric has samples."""
    classify(client)
    return server


def classify(client: httpx.Client) -> None:
    headers = {"Content-Type": "image/jpeg"}
    for seed in range(8):
        photo = noise(seed)
        assert client.post("/v1/classify", content=photo, headers=headers).status_code == 200
    broken = client.post("/v1/classify", content=noise(0)[:200], headers=headers)
    assert broken.status_code == 422


# --- The dashboard and the alerts


@pytest.mark.parametrize("name", [*PANEL_QUERIES, *ALERT_QUERIES])
def test_queries_name_metrics_that_the_server_has(name: str, busy_server: Server) -> None:
    scrape = httpx.get(f"{busy_server.url}/metrics").text
    real = {s.name for family in text_string_to_metric_families(scrape) for s in family.samples}
    asked = metrics_in((PANEL_QUERIES | ALERT_QUERIES)[name])
    assert asked
    assert asked <= real | OF_PROMETHEUS


def test_names_are_found_in_queries() -> None:
    query = 'sum by (le) (rate(a_bucket{x="y z"}[5m])) / on (le) (b_total > 1) or vector(0)'
    assert metrics_in(query) == {"a_bucket", "b_total"}


def test_panels_share_one_page_without_overlap() -> None:
    cells: list[tuple[int, int]] = []
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells += [(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])]
    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_dashboard_is_provisioned_with_its_source() -> None:
    provisioning = DOCKER / "grafana/provisioning"
    sources = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())
    dashboards = yaml.safe_load((provisioning / "dashboards/superbin.yml").read_text())
    (source,) = sources["datasources"]
    used = {target["datasource"]["uid"] for panel in PANELS for target in panel["targets"]}
    assert used == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"
    (provider,) = dashboards["providers"]
    mounts = dict(v.split(":")[:2] for v in COMPOSE["services"]["grafana"]["volumes"])
    assert mounts["./docker/grafana/dashboards"] == provider["options"]["path"]


# --- Prometheus itself


def test_promtool_accepts_the_configuration() -> None:
    subprocess.run([tool("promtool"), "check", "config", PROMETHEUS / "prometheus.yml"], check=True)


def test_alerts_fire_when_they_should_and_only_then() -> None:
    tests = Path(__file__).with_name("alerts.yml")
    subprocess.run([tool("promtool"), "test", "rules", tests], check=True)


def test_prometheus_scrapes_the_server_and_every_panel_shows_something(
    busy_server: Server, client: httpx.Client, tmp_path: Path
) -> None:
    with prometheus(busy_server, tmp_path) as api:

        def empty() -> list[str]:
            classify(client)  # rates need samples from two scrapes
            return [name for name, query in PANEL_QUERIES.items() if not ask(api, query)]

        until(lambda: ask(api, "superbin_requests_total"), "the first scrape")
        until(lambda: not empty(), "a result for every panel")
        (up,) = ask(api, 'up{job="superbin"}')
        assert up["value"][1] == "1"
        rules = api.get("/api/v1/rules").json()["data"]["groups"][0]["rules"]
        assert {rule["name"]: rule["health"] for rule in rules} == dict.fromkeys(
            ALERT_QUERIES, "ok"
        )


@contextmanager
def prometheus(server: Server, folder: Path) -> Iterator[httpx.Client]:
    """The shipped configuration with the server at hand as its target, scraped every second."""
    shutil.copytree(PROMETHEUS, folder, dirs_exist_ok=True)
    config = yaml.safe_load((folder / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [server.url.split("//")[1]]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        tool("prometheus"),
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={address}",
    ]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            with httpx.Client(base_url=f"http://{address}", timeout=10) as api:
                until(lambda: _ready(api), "Prometheus")
                yield api
        finally:
            process.terminate()


def _ready(api: httpx.Client) -> bool:
    try:
        return api.get("/-/ready").is_success
    except httpx.TransportError:
        return False


def ask(api: httpx.Client, query: str) -> list[dict[str, Any]]:
    query = query.replace("$__rate_interval", "1m")
    answer = api.get("/api/v1/query", params={"query": query}).json()
    assert answer["status"] == "success", answer
    result: list[dict[str, Any]] = answer["data"]["result"]
    return result
