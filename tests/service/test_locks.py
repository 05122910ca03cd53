"""One process at a time at work on a folder."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from service.errors import FolderBusy
from service.locks import LOCK, locked


def test_a_folder_is_one_processs_until_it_ends(tmp_path: Path) -> None:
    with locked(tmp_path / "run"):
        with (
            pytest.raises(FolderBusy, match="another process is at work"),
            locked(tmp_path / "run"),
        ):
            pass
        (tmp_path / "run" / LOCK).unlink()
        (tmp_path / "run").rmdir()
    with locked(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK).is_file()


def test_a_lock_that_was_removed_before_it_was_had_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process ends, and clears up, between the opening of the file and its locking."""
    real, clears = fcntl.flock, [True]

    def flock(file: object, how: int) -> None:
        if clears:
            clears.pop()
            (tmp_path / "run" / LOCK).unlink()
            (tmp_path / "run").rmdir()
        real(file, how)  # type: ignore[call-overload]

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK).is_file()
        with (
            pytest.raises(FolderBusy, match="another process is at work"),
            locked(tmp_path / "run"),
        ):
            pass
