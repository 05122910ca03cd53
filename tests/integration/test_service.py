"""The service around the classifier: health, models, metrics, documents, start and stop."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import onnxruntime as ort
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.asking import connect
from tests.integration.server import Server, environment, running, spawn, until
from tests.photo_factory import encode, quarters
from tests.tiny_bundle import SUPERCLASSES, write_bundle

COMMAND = Path(sys.executable).parent / "superbin"
PHOTOS = Path(__file__).parent.parent / "photos"
PHOTO = (PHOTOS / "metal.jpg").read_bytes()
FILES = {"file": ("metal.jpg", PHOTO)}


def samples(client: httpx.Client) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_it_is_alive_and_ready(client: httpx.Client) -> None:
    assert client.get("/livez").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}


def test_what_can_be_got_can_be_asked_for_by_head(client: httpx.Client) -> None:
    paths = ("/", "/docs", "/static/style.css", "/openapi.json", "/livez", "/readyz", "/metrics")
    for path in (*paths, "/v1/models", "/v1/sites", "/v2", "/v2/health/live", "/v2/models/tiny"):
        answer = client.head(path)
        got = client.get(path)
        assert answer.status_code == got.status_code == 200, path
        assert answer.content == b""
        assert answer.headers["content-type"] == got.headers["content-type"]
    assert client.head("/v1/models", params={"modle": "x"}).status_code == 422
    assert client.post("/livez").headers["allow"] == "GET, HEAD"
    assert client.head("/v1/classify").headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/v1/classify/", "/v1/models/", "/docs/", "/livez/"])
def test_a_slash_too_many_is_not_found_and_nobody_is_sent_elsewhere(
    client: httpx.Client, path: str
) -> None:
    for method in ("GET", "POST"):
        answer = client.request(method, path, headers={"host": "elsewhere.example"})
        assert answer.status_code == 404
        assert "location" not in answer.headers
    assert client.get("/").status_code == client.get("/docs").status_code == 200


def test_models_are_listed_with_the_default_one(client: httpx.Client) -> None:
    (model,) = client.get("/v1/models").json()["models"]
    assert (model["name"], model["version"], model["default"]) == ("tiny", "1", True)
    assert model["superclasses"] == list(SUPERCLASSES)
    assert model["provider"] == "CPUExecutionProvider"


def test_a_broken_bundle_beside_the_one_that_serves_is_listed_as_such(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    (write_bundle(tmp_path, version="2") / "CARD.md").write_text("altered")
    with running(tmp_path, model="tiny/1") as server:
        models = httpx.get(f"{server.url}/v1/models").json()["models"]
        assert models[0]["default"]
        assert "expected SHA-256" in models[1]["error"]
        assert str(tmp_path) not in models[1]["error"]


def test_metrics_count_what_happened(models_dir: Path) -> None:
    with running(models_dir) as server, httpx.Client(base_url=server.url) as client:
        result = client.post("/v1/classify", files=FILES).json()["results"][0]
        client.post("/v1/classify", files=[("file", ("a", PHOTO)), ("file", ("b", b"x"))])
        client.post("/v1/classify", files={"file": ("a", b"")})
        client.get("/no/such/path")
        found = samples(client)

        def value(name: str, **labels: str) -> float:
            return found[name, frozenset(labels.items())]

        route = {"route": "/v1/classify", "method": "POST"}
        assert value("superbin_requests_total", **route, code="200") == 2
        assert value("superbin_requests_total", **route, code="400") == 1
        unmatched = {"route": "unmatched", "method": "GET", "code": "404"}
        assert value("superbin_requests_total", **unmatched) == 1
        assert value("superbin_request_duration_seconds_count", route="/v1/classify") == 3
        for stage in ("decode", "queue", "infer"):
            assert value("superbin_stage_duration_seconds_count", stage=stage) == 2
        assert value("superbin_batch_photos_sum") == 2
        answer = {"model": "tiny/1", "superclass": result["superclass"]}
        assert value("superbin_predictions_total", **answer, decision=result["decision"]) == 2
        assert value("superbin_confidence_count", **answer) == 2
        assert value("superbin_rejections_total", reason="unsupported_format") == 1
        assert value("superbin_rejections_total", reason="empty") == 1
        assert value("superbin_queue_photos") == 0
        assert value("superbin_ready") == 1
        (info,) = [labels for name, labels in found if name == "superbin_model_info"]
        digests = {"sha256", "manifest_sha256"}
        assert {"name", "version", "variant", "provider"} | digests == {key for key, _ in info}
        assert ("provider", "CPUExecutionProvider") in info
        assert any(name == "process_resident_memory_bytes" for name, _ in found)


def test_odd_methods_do_not_become_labels(client: httpx.Client) -> None:
    client.request("BREW", "/v1/classify")
    assert "BREW" not in client.get("/metrics").text


def test_what_there_is_not_is_a_problem_as_well(client: httpx.Client) -> None:
    for path, method, status in (("/x", "GET", 404), ("/v1/classify", "GET", 405)):
        response = client.request(method, path)
        assert response.status_code == status
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["status"] == status
    assert client.get("/v1/classify").headers["allow"] == "POST"
    for path in ("/static/../app.py", "/static/%2e%2e%2fapp.py", "/static/none.js"):
        assert client.get(path).status_code == 404


def test_every_answer_has_security_headers(client: httpx.Client) -> None:
    for path in ("/", "/docs", "/static/page.js", "/livez", "/none"):
        headers = client.get(path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


def test_the_pages_use_nothing_from_elsewhere(client: httpx.Client) -> None:
    for path in ("/", "/docs", "/static/page.js", "/static/result.js", "/static/style.css"):
        text = client.get(path).text
        assert "https://" not in text
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")


def test_the_api_describes_both_bodies_and_its_refusals(client: httpx.Client) -> None:
    api = client.get("/openapi.json").json()
    operation = api["paths"]["/v1/classify"]["post"]
    assert set(operation["requestBody"]["content"]) == {"multipart/form-data", "image/*"}
    assert set(operation["responses"]) >= {"200", "400", "413", "415", "422", "503"}
    refusal = operation["responses"]["413"]["content"]["application/problem+json"]
    examples = refusal["examples"].values()
    assert examples
    assert {example["value"]["status"] for example in examples} == {413}
    assert "Problem" in api["components"]["schemas"]


def test_each_request_is_one_line_of_json_in_the_log(models_dir: Path) -> None:
    with running(models_dir) as server:
        httpx.post(f"{server.url}/v1/classify", files=FILES, headers={"x-request-id": "mine"})
        until(lambda: any("mine" in line for line in server.stdout), "the line")
        (line,) = [one for one in server.log_lines() if one.get("request_id") == "mine"]
        assert (line["route"], line["code"], line["photos"]) == ("/v1/classify", 200, 1)
        assert line["duration_s"] > 0
        assert not {"client", "reason"} & set(line)  # no keys, and nothing was refused
        assert not [one for one in server.log_lines() if one.get("route") == "/readyz"]


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_with_status_0(models_dir: Path, sig: signal.Signals) -> None:
    with running(models_dir) as server:
        assert httpx.post(f"{server.url}/v1/classify", files=FILES).status_code == 200
        assert server.stop(sig) == 0
        assert not any("Traceback" in line for line in server.stderr + server.stdout)


def is_closed(server: Server) -> bool:
    try:
        httpx.get(f"{server.url}/livez")
    except httpx.TransportError:
        return True
    return False


def test_ctrl_c_twice_ends_it_at_once_and_without_a_traceback(models_dir: Path) -> None:
    with (
        running(models_dir, grace_period_s=600, body_timeout_s=600) as server,
        httpx.Client(base_url=server.url) as client,
        connect(client) as connection,
    ):
        opening = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
        connection.sendall(opening + b"Content-Length: 1000\r\n\r\nx")
        until(lambda: "superbin_queue_photos 1.0" in client.get("/metrics").text, "admission")
        client.close()
        server.process.send_signal(signal.SIGINT)
        until(lambda: is_closed(server), "the port to close")
        assert server.stop(signal.SIGINT) == 0
        assert not any("Traceback" in line for line in server.stderr + server.stdout)


def test_a_request_that_runs_is_finished_before_the_end(models_dir: Path) -> None:
    slow = encode(quarters(4000, 3000), "PNG")
    files = [("file", (f"{i}.png", slow)) for i in range(8)]
    with running(models_dir, decode_workers=1) as server, ThreadPoolExecutor(1) as pool:
        pending = pool.submit(httpx.post, f"{server.url}/v1/classify", files=files, timeout=30)
        metrics = f"{server.url}/metrics"
        until(lambda: "superbin_queue_photos 8.0" in httpx.get(metrics).text, "the request")
        assert server.stop() == 0
        assert len(pending.result().json()["results"]) == 8


def test_readiness_fails_first_while_the_rest_is_still_answered(models_dir: Path) -> None:
    with running(models_dir, drain_delay_s=60) as server:
        server.process.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(f"{server.url}/readyz").status_code == 503, "readiness to fail")
        assert httpx.get(f"{server.url}/livez").status_code == 200
        assert httpx.post(f"{server.url}/v1/classify", files=FILES).status_code == 200
        assert server.stop() == 0  # asked twice: without the delay


def fails_to_start(variables: dict[str, str]) -> str:
    server = spawn(variables)
    assert server.ended() != 0
    assert not any("Traceback" in line for line in server.stderr + server.stdout)
    return "".join(server.stderr)


def test_a_gpu_that_is_not_there_stops_the_start(models_dir: Path) -> None:
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this ONNX Runtime is built for CUDA")
    told = fails_to_start(environment(models_dir, device="cuda"))
    assert "device 'cuda'" in told


def test_an_altered_bundle_stops_the_start(models_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(models_dir, tmp_path / "models")
    model = tmp_path / "models" / "tiny" / "1" / "model.onnx"
    model.write_bytes(model.read_bytes() + b"\0")
    assert "expected SHA-256" in fails_to_start(environment(tmp_path / "models"))


def test_no_model_stops_the_start(tmp_path: Path) -> None:
    assert "expected a bundle 'tiny'" in fails_to_start(environment(tmp_path))


def test_a_misspelt_variable_stops_the_start(models_dir: Path) -> None:
    told = fails_to_start(environment(models_dir) | {"SUPERBIN_DEVISE": "cpu"})
    assert "did you mean SUPERBIN_DEVICE?" in told


def test_a_bad_value_stops_the_start(models_dir: Path) -> None:
    assert "SUPERBIN_MAX_BATCH: " in fails_to_start(environment(models_dir, max_batch="many"))


def test_a_port_that_is_taken_stops_the_start(models_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = spawn(environment(models_dir, port=taken.getsockname()[1]))
        assert server.ended() == 1
    assert server.stderr[-1].startswith("superbin: cannot listen on 127.0.0.1, port ")
    assert "Address already in use" in server.stderr[-1]
    assert not server.stdout  # the model was not loaded in vain


def test_the_command_serves_as_the_module_does(models_dir: Path) -> None:
    variables = environment(models_dir)
    found = subprocess.run(
        [COMMAND, "models", "--json"], env=variables, capture_output=True, text=True
    )
    assert json.loads(found.stdout)["name"] == "tiny"
