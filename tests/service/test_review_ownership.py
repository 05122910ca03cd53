"""No photo is ever removed by a database that is not the photos' own, nor by who only reads."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.cli import main
from service.review import ownership, schema
from service.review.clock import confirm
from service.review.database import Database
from service.review.files import MARK, PART_S, PhotoFiles
from service.review.opening import open_store, read_store
from service.review.records import Rules, StoreError, StoreUnavailable, Verdict
from service.review.store import Store
from tests.review_stores import new_photo

RULES = Rules(double_share=0.0)
FAR = 1e12  # seconds since 1970


@pytest.fixture
def photos(tmp_path: Path) -> str:
    return str(tmp_path / "photos")


@pytest.fixture
def url(tmp_path: Path, photos: str) -> str:
    """A store of five photos, four of them reviewed."""
    made = f"sqlite:///{tmp_path}/review.db"
    with open_store(made, photos, RULES) as store:
        for seed in range(5):
            added = store.add(new_photo(seed)).id
            if seed:
                store.review(added, "anna", Verdict("organic"))
    return made


def superbin(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def believe(store: Store) -> None:
    """Let it have seen that it is as late as that."""
    with store._database.write() as connection:
        confirm(connection, FAR)


def files(photos: str) -> set[str]:
    return set(PhotoFiles(photos).listed())


def unmark(url: str, photos: str) -> None:
    """A store as versions left it that knew no marks."""
    (Path(photos) / MARK).unlink()
    with Database(url).write() as connection:
        connection.execute(sa.delete(schema.meta).where(schema.meta.c.name == ownership.NAME))


A, B = "ab" * 32, "cd" * 32
STRANGE = (
    "holiday.jpg",
    f"{A}.jpg",
    "ab/holiday.jpg",
    f"ab/{B}.jpg",
    f"ab/{A.upper()}.jpg",
    f"ab/{A}.jpg.bak",
    f"copy/ab/{A}.jpg",
    "ubuntu.iso.part",
    "downloads/sub/ubuntu.iso.part",
    "ab/ubuntu.iso.part",
    f"ab/{B}.jpg.{'0' * 16}.part",
    f"copy/ab/{A}.jpg.{'0' * 16}.part",
)


def put(folder: str, *names: str, age_s: float) -> set[Path]:
    made = {Path(folder) / name for name in names}
    for path in made:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"somebody's")
        os.utime(path, (time.time() - age_s,) * 2)
    return made


@pytest.mark.parametrize("marked", [True, False])
def test_a_new_database_is_refused_and_removes_nothing(
    url: str, photos: str, tmp_path: Path, marked: bool
) -> None:
    if not marked:
        unmark(url, photos)
    before = files(photos)
    told = "belongs to another review database" if marked else "holds 5 photos, and .* lists 0"
    for _ in range(2):  # the second time the database is there
        with pytest.raises(StoreError, match=told) as found:
            open_store(f"sqlite:///{tmp_path}/typo.db", photos)
    assert f"superbin review adopt sqlite:///{tmp_path}/typo.db" in str(found.value)
    assert files(photos) == before
    with open_store(url, photos) as store:
        assert len(list(store.photos())) == 5


def test_a_store_without_marks_goes_on_and_is_marked(url: str, photos: str, tmp_path: Path) -> None:
    unmark(url, photos)
    with read_store(url, photos) as store:
        assert len(list(store.reviewed())) == 4
    assert not (Path(photos) / MARK).exists()
    open_store(url, photos).close()
    assert (Path(photos) / MARK).exists()
    with pytest.raises(StoreError, match="belongs to another"):
        open_store(f"sqlite:///{tmp_path}/other.db", photos)


@pytest.mark.parametrize("lost", ["mark", "id"])
def test_half_a_claim_is_mended_or_refused(url: str, photos: str, lost: str) -> None:
    """A kill between the two leaves the database's alone, and so no mark."""
    if lost == "mark":
        (Path(photos) / MARK).unlink()
        open_store(url, photos).close()
        assert (Path(photos) / MARK).exists()
        return
    with Database(url).write() as connection:
        connection.execute(sa.delete(schema.meta).where(schema.meta.c.name == ownership.NAME))
    with pytest.raises(StoreError, match="knows no folder yet"):
        open_store(url, photos)


def test_another_folder_is_refused(url: str, tmp_path: Path) -> None:
    told = "holds 0 photos, and .* lists 5, of which none is there"
    with pytest.raises(StoreError, match=told):
        open_store(url, str(tmp_path / "empty"))
    with open_store(f"sqlite:///{tmp_path}/b.db", str(tmp_path / "others")) as store:
        store.add(new_photo(50))
    with pytest.raises(StoreError, match="belongs to another review database"):
        open_store(url, str(tmp_path / "others"))


def test_an_older_backup_removes_nothing(url: str, photos: str, tmp_path: Path) -> None:
    backup = (tmp_path / "review.db").read_bytes()
    with open_store(url, photos, RULES) as store:
        later = store.add(new_photo(9))
    (tmp_path / "review.db").write_bytes(backup)
    before = files(photos)
    with open_store(url, photos, RULES) as store:
        store.prune()
        assert later.id not in {one.id for one in store.photos()}
    assert files(photos) == before


def test_a_running_store_that_lost_its_photos_to_another_removes_none(
    url: str, photos: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = f"sqlite:///{tmp_path}/other.db"
    with open_store(url, photos, RULES, lambda: FAR) as store:
        with pytest.raises(StoreError):
            open_store(other, photos)
        assert superbin("review", "adopt", other, "--photos", photos) == 0
        assert "5 photos that it does not list stay there" in capsys.readouterr().out
        believe(store)
        with pytest.raises(StoreUnavailable, match="nothing is removed from it"):
            store.prune()
    assert len(files(photos)) == 5
    with pytest.raises(StoreError, match="belongs to another"):
        open_store(url, photos)
    with open_store(other, photos) as store:
        assert store.counts().photos == 0
        store.add(new_photo(7))
    assert superbin("review", "adopt", other, "--photos", photos, "--remove-unlisted") == 0
    assert "5 photos that it does not list were removed" in capsys.readouterr().out
    assert len(files(photos)) == 1


def test_a_copy_that_adopted_the_photos_has_them_alone(
    url: str, photos: str, tmp_path: Path
) -> None:
    copy = f"sqlite:///{tmp_path}/copy.db"
    shutil.copyfile(tmp_path / "review.db", tmp_path / "copy.db")
    with open_store(url, photos, RULES, lambda: FAR) as store:
        assert superbin("review", "adopt", copy, "--photos", photos) == 0
        believe(store)
        with pytest.raises(StoreUnavailable, match="nothing is removed from it"):
            store.prune()
    with pytest.raises(StoreError, match="belongs to another"):
        open_store(url, photos)
    with open_store(copy, photos) as store:
        assert store.counts().photos == 5


def test_photos_that_belong_to_the_database_may_be_adopted_beside_a_running_store(
    url: str, photos: str, capsys: pytest.CaptureFixture[str]
) -> None:
    adopt = ("review", "adopt", url, "--photos", photos, "--remove-unlisted")
    (stray,) = put(photos, f"ab/{A}.jpg", age_s=0)
    with open_store(url, photos, RULES, lambda: FAR) as store:
        assert superbin(*adopt) == 0
        assert "1 photos that it does not list were removed" in capsys.readouterr().out
        assert not stray.exists()
        believe(store)
        assert store.prune().photos == 5


def test_to_adopt_takes_a_database_and_photos_that_are_there(
    photos: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert superbin("review", "adopt", f"sqlite:///{tmp_path}/typo.db", "--photos", photos) == 1
    assert f"there is no file {tmp_path}/typo.db" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_photos_of_a_store_count_for_nothing(
    photos: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = put(photos, *STRANGE, age_s=2 * PART_S)
    url = f"sqlite:///{tmp_path}/review.db"
    open_store(url, photos).close()  # which finds a folder without photos
    assert files(photos) == set()
    assert superbin("review", "adopt", url, "--photos", photos, "--remove-unlisted") == 0
    told = capsys.readouterr().out
    assert "it lists 0, 0 are there" in told
    assert "0 photos that it does not list were removed" in told
    assert all(path.exists() for path in others)


def test_only_a_store_s_own_old_parts_are_swept(url: str, photos: str) -> None:
    own = (f"ab/{A}.jpg.{'0' * 16}.part", f"{MARK}.{'0' * 16}.part")
    old = put(photos, *own, age_s=2 * PART_S)
    others = put(photos, *STRANGE, age_s=2 * PART_S)
    young = put(photos, f"ab/{A}.jpg.{'1' * 16}.part", f"{MARK}.{'1' * 16}.part", age_s=PART_S / 2)
    open_store(url, photos).close()
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in others | young)  # another process may be writing


def test_what_is_too_old_goes_still(url: str, photos: str) -> None:
    with open_store(url, photos, RULES) as store:
        store._now = lambda: FAR
        believe(store)
        assert store.prune().photos == 5
    assert files(photos) == set()


def test_a_clock_that_leapt_may_be_confirmed(
    url: str, photos: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after some weeks off, where nobody wants to wait for a day."""
    with open_store(url, photos, RULES) as store:
        assert store.prune().photos == 0
        with store._database.write() as connection:
            confirm(connection, 1_600_000_000.0)
        doubt = store.prune().doubt or ""
        assert "at most a day from 2020-09-13 12:26 UTC" in doubt
        assert superbin("review", "confirm-clock", url) == 0
        assert "the newest time was 2020-09-13 12:26 UTC" in capsys.readouterr().out
        assert store.prune().doubt is None


def test_a_clock_is_confirmed_in_a_store_that_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert superbin("review", "confirm-clock", f"sqlite:///{tmp_path}/typo.db") == 1
    assert f"there is no file {tmp_path}/typo.db" in capsys.readouterr().err


def test_a_clock_that_says_anything_is_told(url: str, photos: str) -> None:
    with open_store(url, photos, RULES, lambda: 1e17) as store:
        assert "the clock says 100000000000000000 seconds after 1970" in (store.prune().doubt or "")
