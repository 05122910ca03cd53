"""The folder of site files: what stays in force, and who waits while files are read."""

from __future__ import annotations

import asyncio
import os
import threading
from errno import EACCES
from pathlib import Path
from typing import IO

import pytest
from structlog.testing import capture_logs

from service import rulebook as module
from service.metrics import Metrics
from service.rulebook import Rulebook, SiteUnknown
from service.site_rules import Rules, read_rules
from tests.tiny_site import write_site


def opened(folder: Path) -> Rulebook:
    return Rulebook(folder, None, lambda: None, Metrics())


def test_rules_stay_while_their_file_is_listed_and_cannot_be_reached(tmp_path: Path) -> None:
    sites, kept = tmp_path / "sites", tmp_path / "kept"
    sites.mkdir()
    kept.mkdir()
    file = write_site(kept)
    (sites / "tiny.yaml").symlink_to(file)
    book = opened(sites)
    file.rename(kept / "away.yaml")
    book.look()
    assert book.find("tiny") is not None
    write_site(kept, {"version": "2"})
    book.look()
    found = book.find("tiny")
    assert found is not None
    assert found.site.version == "2"


def test_rules_stay_while_their_folder_cannot_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(folder: Path) -> None:
        raise PermissionError(EACCES, "Permission denied")

    write_site(tmp_path)
    book = opened(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refused)
        book.look()
    assert book.find("tiny") is not None


def test_a_file_that_can_be_read_again_is_taken_over_though_it_has_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one whose permissions are put right."""

    def refused(file: Path, mode: str) -> IO[bytes]:
        raise PermissionError(EACCES, "Permission denied")

    write_site(tmp_path)
    book = opened(tmp_path)
    write_site(tmp_path, {"version": "2, and longer"})
    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(Path, "open", refused)
        for _ in range(3):
            assert book.look() == []
    assert [line["event"] for line in logs] == ["site refused"]
    assert [site.version for site in book.look()] == ["2, and longer"]
    assert book.look() == []


def test_a_refused_file_that_is_gone_is_told_no_more(tmp_path: Path) -> None:
    file = write_site(tmp_path)
    file.write_text("site: other", encoding="utf-8")
    book = opened(tmp_path)
    with pytest.raises(SiteUnknown, match="whose file is refused"):
        book.find("tiny")
    file.unlink()
    book.look()
    with pytest.raises(SiteUnknown, match=r"holds no site file, got 'tiny'$"):
        book.find("tiny")


def test_rules_that_a_key_needs_stay_where_their_file_is_gone_which_is_told_once(
    tmp_path: Path,
) -> None:
    file = write_site(tmp_path)
    other = tmp_path / "other.yaml"
    other.write_text(file.read_text("utf-8").replace("site: tiny", "site: other"), "utf-8")
    book = Rulebook(tmp_path, None, lambda: None, Metrics())
    book.need(["tiny"])
    text = file.read_text("utf-8")
    for _ in range(2):
        file.unlink()
        other.unlink(missing_ok=True)
        with capture_logs() as logs:
            book.look()
            book.look()
        told = [(line["event"], line["site"]) for line in logs]
        assert told.count(("site file gone, and its rules stay in force", "tiny")) == 1
        assert book.find("tiny") is not None
        file.write_text(text, "utf-8")
        book.look()
    assert ("site removed", "other") not in told
    with pytest.raises(SiteUnknown, match="expected a site of tiny, got 'other'"):
        book.find("other")


def test_a_changed_file_is_not_read_on_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def noted(file: Path) -> Rules:
        threads.append(threading.current_thread())
        return read_rules(file)

    write_site(tmp_path)
    book = opened(tmp_path)
    write_site(tmp_path, {"version": "a longer one"})
    monkeypatch.setattr(module, "read_rules", noted)

    async def watched() -> None:
        watching = asyncio.create_task(book.watch(0.01))
        while not threads:
            await asyncio.sleep(0.01)
        watching.cancel()

    asyncio.run(asyncio.wait_for(watched(), 30.0))
    assert threads[0] is not threading.main_thread()
