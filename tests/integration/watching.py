"""A real Prometheus over real servers, with the configuration that is shipped."""

from __future__ import annotations

import math
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.integration.server import ROOT, Server, until

PROMETHEUS = ROOT / "docker/prometheus"


def tool(name: str) -> str:
    """Where a command is; without it the test is skipped."""
    found = shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed; on Debian: apt-get install prometheus")
    return found


def instance_of(server: Server) -> str:
    """What Prometheus calls it."""
    return server.url.split("//")[1]


def until_none(names: Callable[[], set[str]]) -> None:
    """Poll until there is none left, and name those that are where it takes too long."""
    last: set[str] = set()

    def none() -> bool:
        last.clear()
        last.update(names())
        return not last

    try:
        until(none, "the panels")
    except AssertionError as error:
        raise AssertionError(f"{error}: {sorted(last)}") from error


@contextmanager
def prometheus(servers: list[Server], folder: Path) -> Iterator[httpx.Client]:
    """The shipped configuration with these servers as its targets, scraped every second."""
    shutil.copytree(PROMETHEUS, folder, dirs_exist_ok=True)
    config = yaml.safe_load((folder / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    targets = [instance_of(server) for server in servers]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = targets
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
    """The series that answer a query now; one that Prometheus refuses fails the test."""
    answer = api.get("/api/v1/query", params={"query": query}).json()
    assert answer["status"] == "success", answer
    result: list[dict[str, Any]] = answer["data"]["result"]
    return result


def shown(api: httpx.Client, query: str) -> list[dict[str, Any]]:
    """Of the answer what a panel can draw: numbers."""
    return [one for one in ask(api, query) if not math.isnan(float(one["value"][1]))]
