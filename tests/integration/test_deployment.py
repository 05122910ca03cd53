"""What the Dockerfiles and the compose files promise."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from service.server import LAST_S
from service.settings import Settings
from service.workers import LATER_S
from tests.integration.server import ROOT, Server

DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text()
GPU_TEXT = (DOCKER / "compose.gpu.yml").read_text()
COMPOSE = yaml.safe_load(COMPOSE_TEXT)
GPU = yaml.safe_load(GPU_TEXT)
GRPC_TEXT = (DOCKER / "compose.grpc.yml").read_text()


def variables_in(text: str) -> set[str]:
    return set(re.findall(r"\$\{(\w+)", text))


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Of the last stage, each with its arguments."""
    text = re.sub(r"(?m)^\s*#.*\n", "", dockerfile.read_text())
    lines = re.sub(r"\\\n", " ", text).splitlines()
    split = [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]
    last = max(i for i, (word, _) in enumerate(split) if word == "FROM")
    return split[last:]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_images_run_as_a_fixed_user_get_signals_and_report_to_nobody(dockerfile: Path) -> None:
    found = dict(instructions(dockerfile))
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", found["USER"])
    assert found["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(found["ENTRYPOINT"]) == ["superbin"]
    assert "ORT_DISABLE_TELEMETRY=1" in found["ENV"].split()


def test_the_service_image_has_a_probe_and_no_training() -> None:
    found = instructions(DOCKER / "service.Dockerfile")
    assert "CMD" in dict(found)["HEALTHCHECK"]
    assert "training" not in (DOCKER / "service.Dockerfile").read_text()


@pytest.mark.parametrize(
    ("extra", "runtime"), [("cpu", "onnxruntime>"), ("gpu", "onnxruntime-gpu")]
)
def test_each_flavour_of_the_service_has_its_own_runtime(extra: str, runtime: str) -> None:
    listed = requirements(extra).stdout.splitlines()
    assert next(line for line in listed if line.startswith("onnxruntime")).startswith(runtime)
    assert not any(line.startswith("torch") for line in listed)


def test_an_unknown_flavour_stops_the_build() -> None:
    refused = requirements("tpu")
    assert refused.returncode == 1
    assert "'tpu'" in refused.stderr


def requirements(extra: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, DOCKER / "requirements.py", extra]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_probe_tells_a_ready_server_from_none(server: Server) -> None:
    assert probe(server.url.rsplit(":", 1)[1]) == 0
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert probe(str(port)) == 1


def probe(port: str) -> int:
    command = [sys.executable, "-I", "-S", DOCKER / "healthcheck.py"]
    return subprocess.run(command, env={"SUPERBIN_PORT": port}, capture_output=True).returncode


def test_compose_hardens_the_service_and_binds_where_the_environment_says() -> None:
    service = COMPOSE["services"]["service"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["ports"] == ["${SERVICE_ADDRESS:-127.0.0.1}:${SUPERBIN_PORT:-8000}:8000"]
    assert service["healthcheck"]["test"][1:] == probe_of_the_image()
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}


def probe_of_the_image() -> list[str]:
    check = dict(instructions(DOCKER / "service.Dockerfile"))["HEALTHCHECK"]
    command: list[str] = json.loads(check.split("CMD", 1)[1])
    return command


def test_compose_waits_until_the_service_has_ended() -> None:
    service = COMPOSE["services"]["service"]
    fields = Settings.model_fields
    takes_s = fields["drain_delay_s"].default + fields["grace_period_s"].default + LAST_S + LATER_S
    assert takes_s < int(service["stop_grace_period"].removesuffix("s"))


def test_the_scrape_goes_to_the_service_of_compose() -> None:
    config = yaml.safe_load((DOCKER / "prometheus/prometheus.yml").read_text())
    (target,) = config["scrape_configs"][0]["static_configs"][0]["targets"]
    name, port = target.split(":")
    assert COMPOSE["services"][name]["ports"][0].endswith(f":{port}")
    assert ("EXPOSE", port) in instructions(DOCKER / "service.Dockerfile")


def test_monitoring_is_pinned_and_for_this_machine_only() -> None:
    for name in ("prometheus", "grafana"):
        service = COMPOSE["services"][name]
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_training_starts_only_when_asked_for() -> None:
    assert [n for n, s in COMPOSE["services"].items() if "profiles" in s] == ["training"]
    volumes = COMPOSE["services"]["training"]["volumes"]
    assert "${DATA_DIR:-./data}:/data:ro" in volumes
    assert "${RUNS_DIR:-./runs}:/runs" in volumes


def test_the_gpu_is_reserved_and_asked_for() -> None:
    for name in ("service", "training", "gpu-exporter"):
        service = GPU["services"][name]
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["driver"] == "nvidia"
        assert device["capabilities"] == ["gpu"]
    assert GPU["services"]["service"]["build"]["args"] == {"EXECUTION": "gpu"}
    assert GPU["services"]["service"]["environment"]["SUPERBIN_DEVICE"].endswith(":-cuda}")


def test_grpc_is_asked_for_where_its_port_leads() -> None:
    service = yaml.safe_load(GRPC_TEXT)["services"]["service"]
    (port,) = service["ports"]
    assert port.startswith("${SERVICE_ADDRESS:-127.0.0.1}:${SUPERBIN_GRPC_PORT:-")
    assert port.endswith(f":{service['environment']['SUPERBIN_GRPC_PORT']}")
    assert " grpc " in (DOCKER / "service.Dockerfile").read_text()


def test_every_setting_of_compose_is_one_of_the_service() -> None:
    known = {f"SUPERBIN_{name.upper()}" for name in Settings.model_fields}
    assert set(COMPOSE["services"]["service"]["environment"]) <= known
    image = (DOCKER / "service.Dockerfile").read_text()
    assert set(re.findall(r"\b(SUPERBIN_\w+)=", image)) <= known


def test_the_example_names_every_variable_with_its_default() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert set(example) == variables_in(COMPOSE_TEXT + GPU_TEXT + GRPC_TEXT)
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]+)\}", COMPOSE_TEXT))
    for name, value in example.items():
        if value and name in defaults:
            assert value == defaults[name], name
        elif value:
            field = Settings.model_fields[name.removeprefix("SUPERBIN_").lower()]
            number = re.fullmatch(r"[\d.]+", value)
            assert (float(value) if number else value) == field.default
