"""Who asks over gRPC, by key or by address, and what they may."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.integration.server import running
from tests.integration.test_grpc_limits import ONE, asked, infer

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
