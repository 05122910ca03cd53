"""Schemathesis asks what the document allows, and what it does not, and believes nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from service.keys import digest_of
from tests.integration.server import running
from tests.tiny_bundle import write_bundle

HERE = Path(__file__).parent
SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"
EXAMPLES = 40


@pytest.mark.parametrize("key", [None, "ops"])
def test_the_service_does_as_its_document_says(tmp_path: Path, key: str | None) -> None:
    """With an admin's key the calls that load models and roll them back are carried out."""
    write_bundle(tmp_path / "models")
    write_bundle(tmp_path / "models", version="2", seed=1)
    keys = f'[clients]\nline = "{digest_of("line")}"\n[admins]\nops = "{digest_of("ops")}"\n'
    (tmp_path / "keys.toml").write_text(keys)
    settings: dict[str, object] = {}
    if key:
        settings = {"keys_file": tmp_path / "keys.toml", "feedback_rate_s": 0}
        settings["review_url"] = f"sqlite:///{tmp_path}/review.db"
        settings["review_photos"] = tmp_path / "photos"
        settings["tally_url"] = f"sqlite:///{tmp_path}/composition.db"
    with running(tmp_path / "models", **settings) as server:
        run = subprocess.run(
            [
                *(SCHEMATHESIS, "--config-file", HERE / "schemathesis.toml"),
                *("run", f"{server.url}/openapi.json", "--no-color", "--continue-on-failure"),
                *("--max-examples", str(EXAMPLES), "--generation-deterministic"),
                *(("-H", f"X-API-Key: {key}") if key else ()),
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=300,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        assert httpx.get(f"{server.url}/readyz").status_code == 200
        failed = [line for line in server.log_lines() if line.get("code", 0) >= 500]
        assert not failed


def test_every_method_of_a_path_is_allowed_by_name(client: httpx.Client) -> None:
    assert client.put("/v1/models/tiny/shadow").headers["allow"] == "DELETE, POST"
    assert client.put("/v1/classify").headers["allow"] == "POST"


def test_every_reason_for_a_refusal_is_told(client: httpx.Client) -> None:
    """And those that a route shares with others are not lost among its own."""
    paths = client.get("/openapi.json").json()["paths"]
    told = paths["/v1/classify"]["post"]["responses"]["422"]
    assert told["description"] == (
        "The photo is damaged; or: A query parameter is unknown or does not fit"
    )
    examples = told["content"]["application/problem+json"]["examples"]
    assert set(examples) == {"broken", "unknown_parameter"}
    refused = client.post(
        "/v1/classify?modle=tiny", content=b"", headers={"content-type": "image/png"}
    )
    assert refused.json()["reason"] == "unknown_parameter"
    for path in ("/v1/classify", "/v1/embed"):
        assert paths[path]["post"]["responses"]["500"]["description"] == "The model failed"
    infer = paths["/v2/models/{name}/infer"]["post"]["responses"]
    assert infer["500"]["description"] == "The model failed"
    rated = {
        path for path, how in paths.items() for one in how.values() if "429" in one["responses"]
    }
    assert {path for path in rated if not path.startswith("/v2")} == {
        *("/v1/classify", "/v1/embed", "/v1/feedback")
    }
    for path, method in (("/v1/feedback", "post"), ("/v1/composition", "get")):
        assert "A query parameter" in paths[path][method]["responses"]["422"]["description"]
