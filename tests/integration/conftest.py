"""One server for all tests that do not need one of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.server import Server, running


@pytest.fixture(scope="session")
def server(models_dir: Path) -> Iterator[Server]:
    """With the default settings."""
    with running(models_dir) as server:
        yield server


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[httpx.Client]:
    """Speaks to `server`."""
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client
