"""One process at a time at work on a folder, and several that use one."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from service.errors import FolderBusy
from service.locks import LOCK, locked, remove_unused, used


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


def test_a_folder_is_removed_once_nobody_uses_it(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "file").touch()
    with used(folder):
        with used(folder):
            remove_unused(folder)
        remove_unused(folder)
        assert (folder / "file").exists()
    remove_unused(folder)
    assert not folder.exists()
    remove_unused(folder)


def test_a_folder_that_went_before_it_was_used_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process takes it for one that nobody uses, between its opening and its locking."""
    folder = tmp_path / "shared"
    real = fcntl.flock

    def flock(file: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        remove_unused(folder)
        real(file, how)

    folder.mkdir()
    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(FileNotFoundError), used(folder):
        pass
    assert not folder.exists()


def test_links_files_and_folders_of_others_stay(tmp_path: Path) -> None:
    for name in ("target", "others"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "kept").touch()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "file").touch()
    names = ["link", "file"]
    if os.geteuid() == 0:
        os.chown(tmp_path / "others", 65534, 65534)
        names.append("others")
    for name in names:
        remove_unused(tmp_path / name)
        assert (tmp_path / name).exists()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target" / "kept").exists()
