"""What every test shares."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from service.bundle import read_bundle
from service.classifier import Classifier
from tests.postgres import Postgres, find_pg_ctl, postgres
from tests.tiny_bundle import write_bundle

# Nothing in the suite is timed: a busy machine must not fail it.
settings.register_profile("superbin", deadline=None)
settings.load_profile("superbin")

# What a shell starts in the background ignores Ctrl-C, and so does whatever that starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one tiny bundle, tiny/1; not to be changed."""
    folder = tmp_path_factory.mktemp("models")
    write_bundle(folder, drift=True)
    return folder


@pytest.fixture(scope="session")
def database_server() -> Iterator[Postgres]:
    """A PostgreSQL server; whoever stops it starts it again."""
    pg_ctl = find_pg_ctl()
    if pg_ctl is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    with postgres(pg_ctl) as running:
        yield running


@pytest.fixture(scope="session")
def classifier(models_dir: Path) -> Classifier:
    """A real session over the tiny bundle."""
    return Classifier(read_bundle(models_dir / "tiny" / "1"), threads=1)
