"""Who asks over gRPC, by key or by address, and what they may."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc.service_pb2 import ModelInferRequest

from service.keys import digest_of
from tests.integration.grpc_asking import (
    INFER,
    ONE,
    asked,
    infer,
    refused,
    silent,
)
from tests.integration.inference import PHOTOS, grpc_address
from tests.integration.server import running

OK, REFUSED = grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("settings", "ends"),
    [
        ({}, [OK, REFUSED, REFUSED]),
        ({"trusted_proxies": "10.0.0.0/8"}, [OK, REFUSED, REFUSED]),
        ({"trusted_proxies": "10.0.0.0/8, 127.0.0.1"}, [OK, OK, REFUSED]),
    ],
)
def test_only_a_trusted_proxy_says_who_asks(
    models_dir: Path, settings: dict[str, Any], ends: list[grpc.StatusCode]
) -> None:
    found = []
    limits = {"grpc_port": 0, "rate_photos_s": 0.01, "max_photos": 1}
    with running(models_dir, **limits, **settings) as server, asked(server) as channel:
        for address in ("192.0.2.1", "192.0.2.2", "192.0.2.2"):
            metadata = (("x-forwarded-for", address),)
            try:
                infer(channel)(ONE, metadata=metadata, timeout=30)
                found.append(OK)
            except grpc.RpcError as error:
                found.append(error.code())
    assert found == ends


def test_without_a_key_nothing_opens_and_the_message_is_not_waited_for(
    models_dir: Path, tmp_path: Path
) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(f'clients."line-4" = "{digest_of("four")}"\n')
    leave = threading.Event()
    with running(models_dir, grpc_port=0, keys_file=file) as server, asked(server) as channel:
        streamed = channel.stream_unary(INFER, ModelInferRequest.SerializeToString)
        for metadata in ((), (("x-api-key", "six"),), (("authorization", "Basic four"),)):
            status, message, trailing = refused(
                lambda m=metadata: streamed(silent(leave), metadata=m, timeout=30)  # type: ignore[misc]
            )
            assert (status, trailing["reason"]) == (
                grpc.StatusCode.UNAUTHENTICATED,
                "key_refused",
            )
            assert "expected a key as Authorization: Bearer or X-API-Key" in message
        leave.set()
        for metadata in ((("x-api-key", "four"),), (("authorization", "Bearer four"),)):
            assert infer(channel)(ONE, metadata=metadata, timeout=30).outputs
        with triton.InferenceServerClient(grpc_address(server)) as speaker:
            assert speaker.is_model_ready("tiny")
            with pytest.raises(triton.InferenceServerException, match="expected a key"):
                speaker.get_model_metadata("tiny")
            headers = {"authorization": "Bearer four"}
            assert speaker.get_model_metadata("tiny", headers=headers).name == "tiny"
    lines = [one for one in server.log_lines() if one.get("route") == INFER]
    told = [(one.get("client"), one.get("reason")) for one in lines]
    assert told == [(None, "key_refused")] * 3 + [("line-4", None)] * 2


def test_a_rate_holds_for_all_that_an_address_asks_by_either_protocol(models_dir: Path) -> None:
    with (
        running(models_dir, grpc_port=0, rate_photos_s=0.001, max_photos=2) as server,
        asked(server) as channel,
    ):
        files = {"file": PHOTOS[0]}
        assert httpx.post(f"{server.url}/v1/classify", files=files, timeout=30).status_code == 200
        assert infer(channel)(ONE, timeout=30).outputs
        status, message, trailing = refused(lambda: infer(channel)(ONE, timeout=30))
        assert (status, trailing["reason"]) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "rate_limited",
        )
        assert "expected at most 0.001 photos a second" in message
        assert int(trailing["retry-after"]) >= 1
        assert trailing["grpc-retry-pushback-ms"] == f"{trailing['retry-after']}000"
        again = httpx.post(f"{server.url}/v1/classify", files=files, timeout=30)
        assert again.status_code == 429
