"""A log that cannot be written: all is answered all the same, and what is lost is counted."""

from __future__ import annotations

import shlex
from pathlib import Path

import grpc
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.asking import JPEG, PHOTO
from tests.integration.grpc_asking import INFER, ONE
from tests.integration.inference import grpc_address
from tests.integration.server import COMMAND, running

ROUNDS = 3


def lost(client: httpx.Client) -> float:
    families = text_string_to_metric_families(client.get("/metrics").text)
    (family,) = [one for one in families if one.name == "superbin_log_lines_lost"]
    (sample,) = [one for one in family.samples if one.name.endswith("_total")]
    return sample.value


@pytest.mark.parametrize("stdout", [">/dev/full", "> >(head -n 1 >/dev/null)"])
@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_asked_is_answered_and_the_end_is_in_good_order(
    models_dir: Path, stdout: str, workers: int
) -> None:
    # Where a buffer may keep what could not be written, the end must not trip over it.
    command = ("bash", "-c", f"unset PYTHONUNBUFFERED; exec {shlex.join(COMMAND)} {stdout}")
    with running(models_dir, command=command, grpc_port=0, workers=workers) as server:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            for _ in range(ROUNDS):  # over one connection, if it stays
                found = client.post("/v1/classify", content=PHOTO, headers=JPEG)
                assert found.status_code == 200
                refused = client.post("/v1/classify", content=b"x", headers=JPEG)
                assert refused.status_code in (415, 422)
                lines = client.post(
                    "/v1/classify",
                    content=PHOTO,
                    headers=JPEG | {"accept": "application/x-ndjson"},
                )
                assert lines.status_code == 200
                assert len(lines.text.splitlines()) >= 1
            with grpc.insecure_channel(grpc_address(server)) as channel:
                infer = channel.unary_unary(INFER)
                for _ in range(ROUNDS):
                    assert infer(ONE.SerializeToString(), timeout=30)
            assert lost(client) >= ROUNDS
        assert server.stop() == 0


def test_where_the_log_is_read_nothing_is_lost(client: httpx.Client) -> None:
    assert client.post("/v1/classify", content=PHOTO, headers=JPEG).status_code == 200
    assert lost(client) == 0
