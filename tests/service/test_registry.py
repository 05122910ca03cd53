"""What serves, whatever becomes of the folder, and whoever else asks, while a version loads."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from service import loaded
from service.bundle import MANIFEST, sha256_of
from service.metrics import Metrics
from service.models_folder import FolderWatch
from service.registry import Registry
from service.sessions import Sessions, open_sessions
from service.settings import Settings
from tests.engine import run, until
from tests.tiny_bundle import write_bundle


async def started(folder: Path) -> Registry:
    """With `tiny/1`, and what there is."""
    write_bundle(folder)
    settings = Settings(models_dir=folder, model="tiny", threads=1, watch_s=0.01)
    registry = Registry(settings, Metrics(), lambda _: None)
    await registry.start()
    return registry


def once_open(monkeypatch: pytest.MonkeyPatch, then: Callable[[Path], object]) -> None:
    """Do something with a bundle's folder when it has been read, and before it serves."""

    def opened(settings: Settings, path: Path) -> Sessions:
        sessions = open_sessions(settings, path)
        then(path)
        return sessions

    monkeypatch.setattr(loaded, "open_sessions", opened)


def looks_of(monkeypatch: pytest.MonkeyPatch) -> list[list[Path]]:
    """What is found at each look into the folder."""
    looks: list[list[Path]] = []

    def noted(watch: FolderWatch) -> list[Path]:
        looks.append(look(watch))
        return looks[-1]

    look = FolderWatch.look
    monkeypatch.setattr(FolderWatch, "look", noted)
    return looks


def test_a_version_that_is_removed_while_it_loads_serves_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        registry = await started(tmp_path)
        digest = sha256_of(write_bundle(tmp_path, version="2", seed=1) / MANIFEST)
        once_open(monkeypatch, shutil.rmtree)
        model = await registry.load("tiny", "2")
        assert registry.default is model
        assert model.bundle.manifest_sha256 == digest
        await registry.close()

    run(test)


def test_a_version_that_is_replaced_while_it_loads_comes_as_the_other_one_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(path: Path) -> None:
        shutil.rmtree(path)
        write_bundle(tmp_path, version="2", seed=2)

    async def test() -> None:
        registry = await started(tmp_path)
        write_bundle(tmp_path, version="2", seed=1)
        with monkeypatch.context() as patched:
            once_open(patched, replace)
            await registry.load("tiny", "2")
        await registry.roll_back("tiny")
        assert registry.default.bundle.id == "tiny/1"
        watching = asyncio.create_task(registry.watch())
        await until(lambda: registry.default.bundle.id == "tiny/2")
        assert registry.default.bundle.manifest_sha256 == sha256_of(tmp_path / "tiny/2" / MANIFEST)
        watching.cancel()
        await registry.close()

    run(test)


def test_a_look_into_the_folder_undoes_no_load_that_it_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = looks_of(monkeypatch)
    gate = threading.Event()

    async def test() -> None:
        registry = await started(tmp_path)
        once_open(monkeypatch, lambda path: gate.wait(10))
        found = [write_bundle(tmp_path, version=one, seed=int(one)) for one in ("2", "3")]
        loading = asyncio.create_task(registry.load("tiny", "3"))
        await asyncio.sleep(0)
        watching = asyncio.create_task(registry.watch())
        await until(lambda: found in looks)
        await asyncio.sleep(0.05)  # it waits for the load
        gate.set()
        await loading
        await until(lambda: looks[-1] == [])
        assert registry.default.bundle.id == "tiny/3"
        watching.cancel()
        await registry.close()

    run(test)


def test_a_version_that_was_looked_at_first_is_served_when_the_folder_is(tmp_path: Path) -> None:
    """As one that was opened as a shadow."""

    async def test() -> None:
        registry = await started(tmp_path)
        write_bundle(tmp_path, version="2", seed=1)
        shadow = await registry.open("tiny", "2")
        watching = asyncio.create_task(registry.watch())
        await until(lambda: registry.default.bundle.id == "tiny/2")
        watching.cancel()
        await shadow.retire()
        await registry.close()

    run(test)


def test_what_is_older_than_what_was_left_does_not_come_where_its_files_are_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = looks_of(monkeypatch)

    async def test() -> None:
        found = [write_bundle(tmp_path, version=one, seed=int(one)) for one in ("2", "3")]
        registry = await started(tmp_path)
        assert registry.default.bundle.id == "tiny/3"
        await registry.load("tiny", "1")
        for path in found:
            os.utime(path / MANIFEST)
        watching = asyncio.create_task(registry.watch())
        await until(lambda: found in looks)
        await until(lambda: looks[-1] == [])
        assert registry.default.bundle.id == "tiny/1"
        shutil.rmtree(found[0])
        write_bundle(tmp_path, version="2", seed=4)
        await until(lambda: registry.default.bundle.id == "tiny/2")
        watching.cancel()
        await registry.close()

    run(test)
