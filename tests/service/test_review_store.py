"""The review store, over SQLite and over a real PostgreSQL, on a folder and on a real S3 server."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from service.errors import PhotoBroken
from service.review import arrivals, leftovers, likeness, schema, upkeep
from service.review.clock import confirm
from service.review.figures import Pruned
from service.review.opening import open_store, read_store
from service.review.records import (
    DAY_S,
    Feedback,
    NewPhoto,
    PhotoAmbiguous,
    PhotoGone,
    Rules,
    StoreError,
    StoreFull,
    StoreUnavailable,
    Verdict,
)
from service.review.store import Store
from tests.postgres import Postgres, fresh_database
from tests.review_stores import new_photo
from tests.s3 import BUCKET, s3_server

ONE_EACH = Rules(double_share=0.0)
TWO_EACH = Rules(double_share=1.0)
HOUR_S = 3600.0


@dataclass
class Clock:
    """Time as the tests want it."""

    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Place:
    """Where a store is, and how to open it once more."""

    url: str
    photos: str
    clock: Clock = field(default_factory=Clock)
    opened: list[Store] = field(default_factory=list)

    def open(self, rules: Rules = ONE_EACH) -> Store:
        self.opened.append(open_store(self.url, self.photos, rules, self.clock))
        return self.opened[-1]

    def later(self, days: float) -> None:
        """Time goes by, and the store has seen it."""
        self.clock.now += days * DAY_S
        with self.opened[-1]._database.write() as connection:
            confirm(connection, self.clock.now)


@pytest.fixture(scope="session")
def objects() -> Iterator[dict[str, str]]:
    with s3_server() as variables:
        yield variables


@pytest.fixture(params=["sqlite", "postgresql", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    url, photos = f"sqlite:///{tmp_path}/review.db", str(tmp_path / "photos")
    if request.param == "postgresql":
        url = fresh_database(request.getfixturevalue("database_server"))
    if request.param == "s3":
        photos = fresh_bucket(request)
    found = Place(url, photos)
    yield found
    for store in found.opened:
        store.close()


def fresh_bucket(request: pytest.FixtureRequest) -> str:
    return bucket_of(request.getfixturevalue("objects"), request.getfixturevalue("monkeypatch"))


def bucket_of(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    import s3fs

    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    bucket = f"{BUCKET}-{uuid4().hex}"
    s3fs.S3FileSystem(skip_instance_cache=True).mkdir(bucket)
    return f"s3://{bucket}/photos"


def test_a_photo_comes_back_as_it_was_told(place: Place) -> None:
    store = place.open()
    added = store.add(new_photo(1))
    kept = store.photo(added.id)
    given = new_photo(1)
    for name in ("request_id", "reason", "model", "superclass", "confidence", "decision", "site"):
        assert getattr(kept, name) == getattr(given, name)
    assert kept.probabilities == given.probabilities
    assert kept.references == given.references
    assert kept.embedding == given.embedding
    assert len(kept.load()) == kept.nbytes
    assert kept.kept_at.timestamp() == place.clock.now
    assert [one.id for one in place.open().photos()] == [added.id]


def test_the_same_photo_is_kept_once_and_found_by_every_request(place: Place) -> None:
    store = place.open()
    first = store.add(new_photo(1))
    again = store.add(new_photo(1, request_id="again", position=3))
    assert (again.id, again.duplicate) == (first.id, True)
    assert store.counts().photos == 1
    assert store.feedback("again", 3, "client", Verdict("residual")).photo_id == first.id
    assert store.feedback("again", 2, "client", Verdict("residual")).photo_id is None


def test_what_a_reviewer_says_settles_a_photo_until_it_is_taken_back(place: Place) -> None:
    store = place.open()
    photo = store.add(new_photo(1)).id
    assert store.counts().queue == 1
    store.review(photo, "anna", Verdict("residual", "foil", "crisp packet"))
    (reviewed,) = store.reviewed()
    assert (reviewed.superclass, reviewed.subclass, reviewed.item) == (
        *("residual", "foil", "crisp packet"),
    )
    assert reviewed.photo.superclass == "organic"  # the model's
    assert [(v.reviewer, v.kind) for v in reviewed.votes] == [("anna", "review")]
    assert store.counts().queue == 0
    store.review(photo, "anna", Verdict("hazardous"))
    assert [one.superclass for one in store.reviewed()] == ["hazardous"]
    assert store.undo(photo, "anna")
    assert not store.undo(photo, "anna")
    assert list(store.reviewed()) == []
    assert store.counts().queue == 1


def test_a_photo_of_no_use_leaves_the_queue_and_is_no_label(place: Place) -> None:
    store = place.open()
    store.review(store.add(new_photo(1)).id, "anna", Verdict(None))
    assert (store.counts().queue, store.counts().reviewed) == (0, 1)
    assert list(store.reviewed()) == []


def test_a_photo_of_no_refuse_is_no_label_and_not_of_no_use(place: Place) -> None:
    store = place.open(TWO_EACH)
    cat, hand, blur = (store.add(new_photo(seed)).id for seed in (1, 2, 3))
    said = Verdict(None, item="a cat", no_refuse=True)
    for reviewer in ("anna", "bert"):
        store.review(cat, reviewer, said)
        store.review(blur, reviewer, Verdict(None))
    store.review(hand, "anna", said)
    store.review(hand, "bert", Verdict(None))  # nobody can tell: that is another word
    counts = store.counts()
    assert (counts.reviewed, counts.no_refuse, counts.no_use) == (2, 1, 1)
    assert (counts.unsettled, counts.queue) == (1, 1)
    assert (store.agreement().photos, store.agreement().agreed) == (3, 2)
    assert list(store.reviewed()) == []
    assert [one.id for one in store.no_refuse()] == [cat]
    assert [(one.id, vote.verdict) for one, vote in store.said_by("anna", 9)][-1] == (cat, said)
    sha256 = store.photo(cat).sha256
    _, settled, votes = store.found(sha256)
    assert settled == said
    assert [vote.verdict for vote in votes] == [said, said]
    store.review(hand, "carl", Verdict(None, no_refuse=True))
    assert [one.id for one in store.no_refuse()] == [cat, hand]
    assert [one.id for one in store.no_refuse(newest=1)] == [hand]
    assert list(store.no_refuse(newest=0)) == []
    assert store.undo(cat, "bert")
    assert store.found(sha256)[1] is None
    assert store.counts().no_refuse == 1
    store.review(cat, "bert", Verdict("organic"))
    store.review(cat, "carl", Verdict("organic"))
    assert [one.photo.id for one in store.reviewed()] == [cat]
    assert [one.id for one in store.no_refuse()] == [hand]


def test_feedback_says_that_a_photo_is_no_refuse(place: Place) -> None:
    store = place.open()
    said = Verdict(None, item="a hand", no_refuse=True)
    first = store.add(new_photo(1)).id
    assert store.feedback("request-1", 0, "client:kiosk", said).settled
    store.feedback("request-2", 0, "client:kiosk", said)  # its photo is on its way
    second = store.add(new_photo(2)).id
    assert [one.id for one in store.no_refuse()] == [first, second]
    _, settled, (vote,) = store.found(store.photo(second).sha256)
    assert (settled, vote.verdict, vote.kind) == (said, said, "feedback")
    store.review(first, "anna", Verdict(None))  # nobody can tell
    assert (store.counts().disputed, store.counts().unsettled) == (1, 1)
    store.review(first, "anna", said)
    assert (store.counts().disputed, store.counts().unsettled) == (0, 0)


def test_no_two_reviewers_have_a_photo_at_once_until_a_lease_runs_out(place: Place) -> None:
    store = place.open()
    for seed in range(4):
        store.add(new_photo(seed))
    mine = [one.id for one in store.take("anna", 3)]
    assert len(mine) == 3
    assert not {one.id for one in store.take("bert", 4)} & set(mine)
    assert [one.id for one in store.take("anna", 3)] == mine  # asked again, the same
    assert store.progress("bert", 0).left == 1
    place.clock.now += store.rules.lease_s
    assert len(store.take("bert", 4)) == 4
    assert store.take("anna", 4) == []
    store.release("bert")
    assert len(store.take("anna", 4)) == 4


def test_takers_at_the_same_time_share_the_queue_without_overlap(place: Place) -> None:
    store = place.open()
    for seed in range(12):
        store.add(new_photo(seed))
    taken: list[list[int]] = []
    begin = threading.Barrier(4)

    def take(reviewer: str) -> None:
        begin.wait()
        taken.append([one.id for one in store.take(reviewer, 3)])

    threads = [threading.Thread(target=take, args=(f"reviewer-{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(chain.from_iterable(taken)) == sorted(one.id for one in store.photos())


def test_a_skipped_photo_waits_for_others_and_for_later(place: Place) -> None:
    store = place.open()
    first, second = (store.add(new_photo(seed)).id for seed in range(2))
    store.take("anna", 2)
    store.skip(first, "anna")
    assert [one.id for one in store.take("anna", 9)] == [second]
    assert store.progress("anna", 0).skipped == 1
    assert [one.id for one in store.take("bert", 9)] == [first]
    store.release("bert")
    assert [one.id for one in store.take("anna", 9, skipped=True)] == [first, second]
    assert store.undo(first, "anna")
    assert store.progress("anna", 0).skipped == 0


def test_two_people_are_asked_and_a_third_where_they_disagree(place: Place) -> None:
    store = place.open(TWO_EACH)
    photo = store.add(new_photo(1)).id
    store.review(photo, "anna", Verdict("organic"))
    assert list(store.reviewed()) == []
    assert store.take("anna", 1) == []
    assert [one.id for one in store.take("bert", 1)] == [photo]
    store.review(photo, "bert", Verdict("residual"))
    assert list(store.reviewed()) == []
    assert [one.id for one in store.take("carl", 1)] == [photo]
    store.review(photo, "carl", Verdict("residual"))
    (reviewed,) = store.reviewed()
    assert (reviewed.superclass, len(reviewed.votes)) == ("residual", 3)
    store.review(photo, "carl", Verdict("hazardous"))
    assert (store.counts().unsettled, store.counts().queue) == (1, 0)


def test_what_people_do_not_agree_on_is_counted_as_that(place: Place) -> None:
    store = place.open()
    told, agreed, outvoted = (store.add(new_photo(seed)).id for seed in (1, 2, 3))
    store.review(told, "anna", Verdict("organic"))
    assert (store.counts().unsettled, store.counts().disputed) == (0, 0)
    store.feedback("request-1", 0, "client:kiosk", Verdict("residual"))
    counts = store.counts()
    assert (counts.unsettled, counts.disputed, counts.queue) == (1, 1, 3)  # a third is asked
    store.review(agreed, "anna", Verdict("organic"))
    store.feedback("request-2", 0, "client:kiosk", Verdict("organic"))
    assert (store.counts().unsettled, store.counts().disputed) == (1, 1)
    store.review(told, "bert", Verdict("organic"))
    counts = store.counts()
    assert (counts.unsettled, counts.disputed, counts.reviewed) == (0, 1, 2)  # and outvoted
    store.review(outvoted, "anna", Verdict(None))
    assert store.counts().no_use == 1
    store.feedback("request-3", 0, "client:kiosk", Verdict("organic"))
    counts = store.counts()
    assert (counts.no_use, counts.unsettled, counts.disputed) == (0, 1, 2)
    store.undo(outvoted, "anna")
    assert (store.counts().unsettled, store.counts().disputed) == (0, 1)


def test_feedback_tells_a_request_of_which_nothing_is_kept(place: Place) -> None:
    store = place.open()
    photo = store.add(new_photo(1)).id
    said = Verdict("organic")
    assert store.feedback("request-1", 0, "kiosk", said) == Feedback(
        photo, request_known=True, settled=True
    )
    assert store.feedback("request-1", 1, "kiosk", said) == Feedback(None, request_known=True)
    assert store.feedback("request-2", 0, "kiosk", said) == Feedback(None, request_known=False)


def embedding(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


def test_photos_that_people_settled_are_found_by_likeness(place: Place) -> None:
    store = place.open()
    of = {
        "far": embedding(-1, 0),
        "near": embedding(0.8, 0.6),
        "nearest": embedding(1, 0),
        "unseen": embedding(1, 0),
        "useless": embedding(1, 0),
        "longer": embedding(1, 0, 0),
    }
    ids = {
        name: store.add(new_photo(seed, embedding=one)).id
        for seed, (name, one) in enumerate(of.items())
    }
    other = store.add(new_photo(50, embedding=embedding(1, 0), model="tiny/2")).id
    bare = store.add(new_photo(51, embedding=None)).id
    for photo in (ids["far"], ids["near"], ids["nearest"], ids["longer"], other, bare):
        store.review(photo, "anna", Verdict("organic", "tea_bag"))
    store.review(ids["useless"], "anna", Verdict(None))
    found = store.similar(ids["unseen"], 6)
    assert [one.photo_id for one in found] == [ids["nearest"], ids["near"], ids["far"]]
    assert [one.similarity for one in found] == pytest.approx([1.0, 0.8, -1.0])
    assert (found[0].superclass, found[0].subclass) == ("organic", "tea_bag")
    assert [one.photo_id for one in store.similar(ids["nearest"], 1)] == [ids["near"]]
    assert store.similar(bare, 6) == []
    assert store.similar(other, 6) == []
    with pytest.raises(PhotoGone):
        store.similar(other + 99, 6)


def test_likeness_looks_at_the_newest_and_no_more(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likeness, "MOST_COMPARED", 2)
    store = place.open()
    ids = [store.add(new_photo(seed)).id for seed in range(4)]
    for photo in ids[:3]:
        store.review(photo, "anna", Verdict("organic"))
    assert {one.photo_id for one in store.similar(ids[3], 6)} == set(ids[1:3])


def test_feedback_is_a_vote_also_where_it_comes_before_its_photo(place: Place) -> None:
    store = place.open()
    assert store.feedback("request-1", 0, "client:kiosk", Verdict("residual")).photo_id is None
    assert store.counts().feedback == 1
    store.add(new_photo(1))
    assert store.counts().feedback == 0
    (reviewed,) = store.reviewed()
    assert reviewed.superclass == "residual"
    assert [vote.kind for vote in reviewed.votes] == ["feedback"]


def test_feedback_that_came_before_a_photo_was_answered_is_of_another(place: Place) -> None:
    store = place.open()
    store.feedback("request-1", 0, "client:kiosk", Verdict("residual"))
    store.add(new_photo(1, answered_at=place.clock.now + arrivals.SLACK_S + 1))
    assert list(store.reviewed()) == []
    assert store.counts().feedback == 1
    ahead = place.clock.now + arrivals.SLACK_S - 1  # another server's clock
    store.add(new_photo(2, request_id="request-1", answered_at=ahead))
    assert [one.superclass for one in store.reviewed()] == ["residual"]


def test_feedback_counts_for_photos_of_the_same_client_or_of_nobody(place: Place) -> None:
    store = place.open()
    said = Verdict("residual")
    mine = store.add(new_photo(1, client="kiosk")).id
    nobodys = store.add(new_photo(2)).id
    assert store.feedback("request-1", 0, "client:other", said, "other") == Feedback(
        None, request_known=False
    )
    assert list(store.reviewed()) == []
    assert store.feedback("request-1", 0, "client:kiosk", said, "kiosk").photo_id == mine
    assert store.feedback("request-1", 0, "client:ops", said).photo_id == mine  # an admin's
    assert store.feedback("request-2", 0, "client:other", said, "other").photo_id == nobodys


def test_feedback_that_waits_counts_for_photos_of_the_same_client_too(place: Place) -> None:
    store = place.open()
    for client, superclass in (("kiosk", "organic"), ("other", "hazardous")):
        store.feedback("request-1", 0, f"client:{client}", Verdict(superclass), client)
    store.add(new_photo(1, client="kiosk"))
    assert [one.superclass for one in store.reviewed()] == ["organic"]
    assert store.counts().feedback == 1
    store.feedback("request-2", 0, "client:ops", Verdict("residual"))
    store.add(new_photo(2, client="kiosk"))
    assert [one.superclass for one in store.reviewed()] == ["organic", "residual"]


def test_clients_may_use_the_same_request_id(place: Place) -> None:
    store = place.open()
    ids = {
        client: store.add(new_photo(seed, request_id="belt-1", client=client)).id
        for seed, client in enumerate(("kiosk", "other"))
    }
    for client, photo in ids.items():
        found = store.feedback("belt-1", 0, f"client:{client}", Verdict("organic"), client)
        assert found.photo_id == photo
    with pytest.raises(PhotoAmbiguous):  # an admin's may be either
        store.feedback("belt-1", 0, "client:ops", Verdict("organic"))


def test_feedback_on_one_of_several_photos_of_one_id_is_refused(place: Place) -> None:
    """As gateways give one id to all that they pass on."""
    store = place.open()
    for seed in (1, 2):
        store.add(new_photo(seed, request_id="gateway"))
    store.add(new_photo(3, request_id="again"))
    store.add(new_photo(3, request_id="again"))
    with pytest.raises(PhotoAmbiguous, match=r"expected one photo 0 of request 'gateway', got sev"):
        store.feedback("gateway", 0, "client:kiosk", Verdict("residual"))
    assert list(store.reviewed()) == []
    found = store.feedback("again", 0, "client:kiosk", Verdict("residual"))
    assert found.photo_id is not None


def test_progress_tells_today_from_before(place: Place) -> None:
    store = place.open()
    first, second = (store.add(new_photo(seed)).id for seed in range(2))
    store.review(first, "anna", Verdict("organic"))
    place.clock.now += DAY_S
    store.review(second, "anna", Verdict("organic"))
    found = store.progress("anna", place.clock.now - 1)
    assert (found.left, found.done, found.today) == (0, 2, 1)


def test_old_photos_go_and_reviewed_ones_by_their_own_time(place: Place) -> None:
    store = place.open(Rules(retention_days=10, reviewed_retention_days=100, double_share=0.0))
    store.add(new_photo(1))
    reviewed = store.add(new_photo(2)).id
    store.review(reviewed, "anna", Verdict("organic"))
    place.later(11)
    fresh = store.add(new_photo(3)).id
    assert store.prune().photos == 1
    assert [one.id for one in store.photos()] == [reviewed, fresh]
    place.later(100)
    assert store.prune().photos == 2
    assert store.counts().photos == 0
    assert list(store._files.listed()) == []


def test_feedback_keeps_no_photo_for_longer_and_no_reviewed_one_either(place: Place) -> None:
    store = place.open(Rules(retention_days=10, reviewed_retention_days=20, double_share=0.0))
    told, reviewed = (store.add(new_photo(seed)).id for seed in (1, 2))
    store.review(reviewed, "anna", Verdict("organic"))
    place.clock.now += 9 * DAY_S
    for seed in (1, 2):
        store.feedback(f"request-{seed}", 0, "client:kiosk", Verdict("organic"))
    assert {one.photo.id for one in store.reviewed()} == {told, reviewed}
    place.later(2)
    assert store.prune().photos == 1
    assert [one.id for one in store.photos()] == [reviewed]
    place.later(10)
    assert store.prune().photos == 1


def test_feedback_does_not_fill_a_store(place: Place) -> None:
    store = place.open(Rules(max_photos=4, double_share=0.0))
    told, reviewed, retold, silent = (store.add(new_photo(seed)).id for seed in range(4))
    store.review(reviewed, "anna", Verdict("organic"))
    for seed in (0, 1, 2):
        store.feedback(f"request-{seed}", 0, "client:kiosk", Verdict("organic"))
    fresh = store.add(new_photo(4)).id  # what nobody said anything of goes first
    assert [one.id for one in store.photos()] == [told, reviewed, retold, fresh]
    store.review(fresh, "anna", Verdict("organic"))
    last = store.add(new_photo(5)).id
    assert [one.id for one in store.photos()] == [reviewed, retold, fresh, last]
    assert silent not in {one.id for one in store.photos()}


def test_a_full_store_drops_the_oldest_that_nobody_reviewed(place: Place) -> None:
    store = place.open(Rules(max_photos=3, double_share=0.0))
    ids = [store.add(new_photo(seed)).id for seed in range(3)]
    store.review(ids[0], "anna", Verdict("organic"))
    store.take("bert", 1)  # has the second before them
    ids.append(store.add(new_photo(3)).id)
    assert [one.id for one in store.photos()] == [ids[0], ids[1], ids[3]]
    for one in (ids[1], ids[3]):
        store.review(one, "anna", Verdict("organic"))
    with pytest.raises(StoreFull, match="expected fewer than 3 photos"):
        store.add(new_photo(4))
    store.prune()
    assert len(list(store._files.listed())) == 3


def test_a_store_with_far_too_many_photos_makes_room_at_once(place: Place) -> None:
    """As where SUPERBIN_REVIEW_MAX_PHOTOS was lowered; PostgreSQL takes 65,535 parameters."""
    store = place.open()
    store.add(new_photo(1))
    multiply(store, 65_600)
    fresh = place.open(Rules(max_photos=10)).add(new_photo(2)).id
    assert store.counts().photos == 10
    assert fresh in {one.id for one in store.photos()}


def multiply(store: Store, times: int) -> None:
    """Rows as that of the first photo, without files."""
    columns = ", ".join(c.name for c in schema.photos.columns if c.name not in ("id", "sha256"))
    with store._database.write() as connection:
        connection.exec_driver_sql(
            "WITH RECURSIVE n(i) AS (SELECT 100001 UNION ALL SELECT i + 1 FROM n "
            f"WHERE i < {100_000 + times}) INSERT INTO review_photos (sha256, {columns}) "
            f"SELECT '{'0' * 58}' || CAST(i AS VARCHAR(6)), {columns} FROM review_photos, n"
        )


def test_nothing_goes_by_a_clock_that_leaps_until_it_has_stayed_so_for_a_day(
    place: Place,
) -> None:
    store = place.open(Rules(retention_days=10, reviewed_retention_days=100, double_share=0.0))
    store.review(store.add(new_photo(1)).id, "anna", Verdict("organic"))
    store.add(new_photo(2))
    assert store.prune() == Pruned()
    right = place.clock.now
    for leap in (400, -400, 400):  # wrong for most of a day each, and then right again
        for hour in range(23):
            place.clock.now = right + leap * DAY_S + hour * HOUR_S
            assert "the clock says" in (store.prune().doubt or "")
        place.clock.now = right + HOUR_S
        assert store.prune() == Pruned()
    for hour in range(24):
        place.clock.now = right + 400 * DAY_S + hour * HOUR_S
        assert store.prune().doubt
    place.clock.now += HOUR_S
    place.open().add(new_photo(3))
    assert store.prune() == Pruned(unreviewed=1, reviewed=1)
    assert store.counts().photos == 1


def test_a_service_that_runs_by_day_prunes_a_day_after_weeks_off(place: Place) -> None:
    store = place.open(Rules(retention_days=10))
    store.add(new_photo(1))
    store.prune()
    place.clock.now += 30 * DAY_S
    assert store.prune().doubt
    place.clock.now += 8 * HOUR_S
    assert store.prune().doubt
    other = place.open(Rules(retention_days=10))  # a server that is a little behind
    place.clock.now -= 1
    assert other.prune().doubt
    place.clock.now += 16 * HOUR_S + 1
    assert other.prune() == Pruned(unreviewed=1)


def test_a_clock_that_leaps_further_is_doubted_for_longer(place: Place) -> None:
    store = place.open(Rules(retention_days=10))
    store.add(new_photo(1))
    store.prune()
    for _ in range(5):
        place.clock.now += 2 * DAY_S
        store.prune()
    place.clock.now += 5 * DAY_S
    assert store.prune().doubt
    assert store.counts().photos == 1


def test_a_leap_is_seen_at_the_first_start_of_this_version_too(place: Place) -> None:
    store = place.open()
    store.review(store.add(new_photo(1)).id, "anna", Verdict("organic"))
    place.clock.now += 400 * DAY_S
    assert store.prune().doubt
    assert store.counts().photos == 1


def test_photos_and_words_that_come_while_the_clock_is_in_the_past_stay(place: Place) -> None:
    store = place.open()
    store.prune()
    right = place.clock.now
    place.clock.now = 200_000_000.0  # 1976
    store.review(store.add(new_photo(1)).id, "anna", Verdict("organic"))
    store.add(new_photo(2))
    store.prune()
    place.clock.now = right + HOUR_S
    assert store.prune() == Pruned()
    assert [one.kept_at.timestamp() for one in store.photos()] == [right, right]


def test_a_full_disk_is_freed_of_what_is_past_its_days(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "PAGE", 50)
    store = place.open(Rules(retention_days=10, double_share=0.0))
    store.add(new_photo(1))
    multiply(store, 150)  # more than fit into what the database has
    store._files.write(f"{100_150:064}", b"of the last row")
    reviewed = store.photo(store.add(new_photo(2)).id)
    store.review(reviewed.id, "anna", Verdict("organic"))
    place.later(5)
    young = store.photo(store.add(new_photo(3)).id)
    before = set(store._files.listed())
    with disk_full(store):
        for _ in range(9):  # days on which not even the time can be written down
            place.clock.now += DAY_S / 2
            with suppress(StoreUnavailable):
                store.prune()
        assert set(store._files.listed()) == before
        place.clock.now += 0.9 * DAY_S
        with pytest.raises(StoreUnavailable) as told:
            store.prune()
        assert told.value.disk_full
        assert set(store._files.listed()) == {reviewed.sha256, young.sha256}
        assert store.counts().photos == 153
        place.clock.now += 400 * DAY_S
        with suppress(StoreUnavailable):
            store.prune()
        assert set(store._files.listed()) == {reviewed.sha256, young.sha256}
        place.clock.now -= 400 * DAY_S
    place.later(0)
    assert store.prune() == Pruned(unreviewed=151)
    assert {one.sha256 for one in store.photos()} == {reviewed.sha256, young.sha256}


@contextmanager
def disk_full(store: Store) -> Iterator[None]:
    """The database may not grow; PostgreSQL's says that not even its log could."""
    engine = store._database._engine
    if store._database.dialect == "postgresql":
        with full_postgres(engine):
            yield
        return

    def limit(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # as many as it has

    event.listen(engine, "checkout", limit)
    yield
    event.remove(engine, "checkout", limit)
    engine.dispose()


@contextmanager
def full_postgres(engine: sa.Engine) -> Iterator[None]:
    tables = ("review_leftovers", "review_meta")
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE 'could not extend file: No space left on device' USING ERRCODE = '53100'; "
            "END $$"
        )
        for table in tables:
            connection.exec_driver_sql(
                f"CREATE TRIGGER full_disk BEFORE INSERT ON {table} EXECUTE FUNCTION full_disk()"
            )
    yield
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP FUNCTION full_disk CASCADE")


def test_bytes_are_capped_too(place: Place) -> None:
    store = place.open(Rules(max_bytes=6_000))
    for seed in range(6):
        store.add(new_photo(seed))
    assert 0 < store.counts().nbytes <= 6_000


def test_an_id_is_never_used_again(place: Place) -> None:
    store = place.open()
    gone = store.add(new_photo(1)).id
    place.later(31)
    store.prune()
    assert store.add(new_photo(2)).id > gone
    for act in (
        lambda: store.review(gone, "anna", Verdict("organic")),
        lambda: store.skip(gone, "anna"),
        lambda: store.undo(gone, "anna"),
        lambda: store.photo(gone),
    ):
        with pytest.raises(PhotoGone, match=f"got {gone}"):
            act()


def test_what_is_held_out_is_a_share_and_stays_so(place: Place) -> None:
    store = place.open(Rules(held_out_share=0.5))
    for seed in range(40):
        store.add(new_photo(seed))
    before = {one.sha256: one.held_out for one in store.photos()}
    assert 5 < sum(before.values()) < 35
    wider = place.open(Rules(held_out_share=0.9))
    assert {one.sha256: one.held_out for one in wider.photos()} == before
    place.later(31)
    wider.prune()
    for seed in range(40):
        wider.add(new_photo(seed))
    after = {one.sha256 for one in wider.photos() if one.held_out}
    assert {sha for sha, held in before.items() if held} < after  # a larger share has the smaller


def test_a_broken_photo_is_refused_and_leaves_nothing(place: Place) -> None:
    store = place.open()
    with pytest.raises(PhotoBroken):
        store.add(new_photo(1, data=new_photo(1).data[:400]))
    assert list(store._files.listed()) == []


def test_what_a_crash_left_is_swept_when_a_store_is_opened_and_nothing_else(place: Place) -> None:
    store = place.open()
    store.add(new_photo(1))
    with store._database.write() as connection:
        leftovers.announce(connection, "ab" * 32, place.clock.now)
    store._files.write("ab" * 32, b"left by a crash")
    store._files.write("cd" * 32, b"of which this database knows nothing")
    again = place.open()
    kept = [one.sha256 for one in again.photos()]
    assert sorted(again._files.listed()) == sorted([*kept, "cd" * 32])


def test_a_new_database_is_refused_wherever_photos_lie(place: Place, tmp_path: Path) -> None:
    kept = place.open().add(new_photo(1))
    with pytest.raises(StoreError, match="belongs to another review database"):
        open_store(f"sqlite:///{tmp_path}/typo.db", place.photos)
    assert place.open().photo(kept.id).load()


def test_who_reads_makes_nothing_wherever_photos_lie(place: Place) -> None:
    with pytest.raises(StoreError, match="expected a review"):
        read_store(place.url, place.photos)
    place.open().add(new_photo(1))
    with read_store(place.url, place.photos) as store:
        assert [len(one.load()) for one in store.photos()] == [
            one.nbytes for one in place.open().photos()
        ]
    away = f"{place.photos}-typo"
    with pytest.raises(StoreError, match="and there is nothing"):
        read_store(place.url, away)


def test_a_file_that_is_swept_while_it_is_added_is_written_again(place: Place) -> None:
    store, other = place.open(), place.open()
    write = store._files.write

    def swept_once(sha256: str, data: bytes) -> None:
        write(sha256, data)
        store._files.write = write  # type: ignore[method-assign]
        assert other.sweep() == 1

    store._files.write = swept_once  # type: ignore[method-assign]
    photo = store.add(new_photo(1))
    assert store.photo(photo.id).load()
    assert other.sweep() == 0
    assert store.photo(photo.id).load()


def test_a_file_that_is_gone_each_time_is_not_written_for_ever(place: Place) -> None:
    store = place.open()
    write, written = store._files.write, []

    def swept(sha256: str, data: bytes) -> None:
        written.append(sha256)
        assert len(written) <= 2 * arrivals.TRIES
        write(sha256, data)
        store._files.remove(sha256)

    store._files.write = swept  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable, match=f"was gone from .* {arrivals.TRIES} times"):
        store.add(new_photo(1))
    store._files.write = write  # type: ignore[method-assign]
    assert store.photo(store.add(new_photo(1)).id).load()


def test_whether_a_file_is_there_may_not_be_known(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/review.db", str(tmp_path / "photos")) as store:
        files = store._files
        assert not files.exists("ab" * 32)
        files.write("ab" * 32, b"photo")
        assert files.exists("ab" * 32)
        circle = Path(files._path("ab" + "cd" * 31))
        circle.symlink_to(circle)
        with pytest.raises(StoreUnavailable, match="Too many levels"):
            files.exists("ab" + "cd" * 31)


def test_a_bucket_that_does_not_say_what_is_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    import s3fs

    with s3_server(hides=".jpg") as variables:
        s3fs.S3FileSystem.clear_instance_cache()  # which know another server
        request.addfinalizer(s3fs.S3FileSystem.clear_instance_cache)
        photos = bucket_of(variables, monkeypatch)
        with open_store(f"sqlite:///{tmp_path}/review.db", photos) as store:
            store._files.write = once(store._files.write)  # type: ignore[method-assign]
            with pytest.raises(StoreUnavailable, match="cannot be reached: PermissionError"):
                store.add(new_photo(1))
            assert store.counts().photos == 0


def once(write: Callable[[str, bytes], None]) -> Callable[[str, bytes], None]:
    """Writes once, and fails the test where that is not enough."""
    left = [1]

    def written(sha256: str, data: bytes) -> None:
        assert left.pop()
        write(sha256, data)

    return written


def test_processes_share_a_store(place: Place) -> None:
    """Each opens it at the same time as the others, then all of them write."""
    spawn = multiprocessing.get_context("spawn")
    begin = spawn.Barrier(3)
    workers = [
        spawn.Process(target=add_some, args=(begin, place.url, place.photos, 8 * i))
        for i in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    store = place.open()
    photos = list(store.photos())
    assert len(photos) == 24
    assert all(len(one.load()) == one.nbytes for one in photos)


def add_some(begin: threading.Barrier, url: str, photos: str, first: int) -> None:
    begin.wait()
    with open_store(url, photos) as store:
        for seed in range(first, first + 8):
            store.add(new_photo(seed))
            store.sweep()  # which must not take what others are adding


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("review.db", "expected SUPERBIN_REVIEW_URL as sqlite:"),
        ("mysql://host/name", "expected SUPERBIN_REVIEW_URL as sqlite:"),
        ("sqlite://", "got no file"),
        ("sqlite:////no/such/folder/review.db", "whose folder does not exist"),
        ("postgresql://nobody@/x?host=/no/such/socket", "cannot be opened"),
        ("postgresql://u:secret@127.0.0.1:1/x", "cannot be opened"),
    ],
)
def test_a_wrong_url_is_told(tmp_path: Path, url: str, told: str) -> None:
    with pytest.raises(StoreError, match=told) as found:
        open_store(url, str(tmp_path))
    assert "secret" not in str(found.value)


def test_a_database_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "review.db").write_bytes(b"this is no database, it is a letter" * 40)
    with pytest.raises(StoreError, match=r"cannot be opened: .*file is not a database"):
        open_store(f"sqlite:///{tmp_path}/review.db", str(tmp_path / "photos"))


@pytest.mark.parametrize("photos", ["nosuch://bucket/photos", "/dev/null/photos"])
def test_a_wrong_place_for_photos_is_told(tmp_path: Path, photos: str) -> None:
    with pytest.raises(StoreError, match="SUPERBIN_REVIEW_PHOTOS as a folder or a URL"):
        open_store(f"sqlite:///{tmp_path}/review.db", photos)


def test_a_bucket_that_is_missing_is_told(
    objects: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in objects.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match=r"SUPERBIN_REVIEW_PHOTOS .*bucket does not exist"):
        open_store(f"sqlite:///{tmp_path}/review.db", "s3://no-such-bucket/photos")


def test_a_wrong_key_of_a_bucket_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    with s3_server(checks_keys=True) as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()  # which know another server
        try:
            with pytest.raises(StoreError, match="PermissionError: The AWS Access Key Id you"):
                open_store(f"sqlite:///{tmp_path}/review.db", f"s3://{BUCKET}/photos")
        finally:
            s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("version", ["1", "2", "3"])
def test_a_store_of_a_version_before_is_brought_up_to_date(place: Place, version: str) -> None:
    store = place.open()
    photo = store.add(new_photo(1)).id
    store.review(photo, "anna", Verdict("organic"))
    store.feedback("request-2", 0, "client:kiosk", Verdict("residual"))
    with store._database.write() as connection:  # as that version left it
        if version == "1":
            connection.execute(sa.text("ALTER TABLE review_votes DROP COLUMN bin"))
        for table in ("sightings", "feedback") if version != "3" else ():
            connection.execute(sa.text(f"ALTER TABLE review_{table} DROP COLUMN client"))
        for column in ("photos DROP COLUMN label_no_refuse", "votes DROP COLUMN no_refuse"):
            connection.execute(sa.text(f"ALTER TABLE review_{column}"))
        connection.execute(sa.text("ALTER TABLE review_feedback DROP COLUMN no_refuse"))
        connection.execute(
            sa.text(f"UPDATE review_meta SET value = '{version}' WHERE name = 'version'")
        )
    for again in (place.open(), place.open()):
        again.review(photo, "bert", Verdict("organic", bin="food"))
        (reviewed,) = again.reviewed()
        assert [vote.verdict.bin for vote in reviewed.votes] == [None, "food"]
    again.add(new_photo(2, client="line"))  # nobody knows whose the words before were
    assert again.feedback("request-1", 0, "client:a", Verdict("organic"), "a").photo_id == photo
    assert [one.superclass for one in again.reviewed()] == ["organic", "residual"]
    again.review(again.add(new_photo(3)).id, "anna", Verdict(None, no_refuse=True))
    assert (again.counts().no_refuse, again.counts().no_use) == (1, 0)


def test_what_an_older_service_wrote_beside_a_newer_one_is_put_right(place: Place) -> None:
    store = place.open()
    organic, untold, nameless, tied, foreign = (store.add(new_photo(n)).id for n in range(5))
    for photo in (organic, untold, nameless, tied, foreign):
        store.review(photo, "anna", Verdict(None, no_refuse=True))
    as_it_wrote = (  # it leaves alone what it does not know
        f"votes SET superclass = 'organic', no_refuse = FALSE WHERE photo_id = {organic}",
        f"photos SET label = 'organic' WHERE id = {organic}",
        f"votes SET no_refuse = FALSE WHERE photo_id = {untold}",
        f"votes SET superclass = '', no_refuse = FALSE WHERE photo_id = {nameless}",
        f"photos SET label = '', label_no_refuse = FALSE WHERE id = {nameless}",
        f"photos SET base_wanted = 2, wanted = 2, label_no_refuse = FALSE WHERE id = {tied}",
    )
    store.review(tied, "bert", Verdict(None))
    with store._database.write() as connection:
        for change in as_it_wrote:
            connection.execute(sa.text(f"UPDATE review_{change}"))
        connection.execute(
            sa.text(f"UPDATE review_photos SET settled = :yes WHERE id = {tied}"), {"yes": True}
        )
    assert [one.photo.id for one in store.reviewed()] == [organic]
    assert not {organic, nameless} & {one.id for one in store.no_refuse()}
    for again in (place.open(), place.open()):
        assert [(one.photo.id, one.superclass) for one in again.reviewed()] == [
            (organic, "organic")
        ]
        assert [one.id for one in again.no_refuse()] == [nameless, foreign]
        counts = again.counts()
        assert (counts.no_use, counts.no_refuse, counts.unsettled) == (1, 2, 1)


def test_another_version_of_the_store_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/review.db"
    open_store(url, str(tmp_path / "photos")).close()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE review_meta SET value = '99' WHERE name = 'version'"))
    engine.dispose()
    with pytest.raises(StoreError, match="expected a review store of version 4, got 99"):
        open_store(url, str(tmp_path / "photos"))


def test_a_store_that_a_newer_version_has_taken_over_is_written_to_no_more(place: Place) -> None:
    store = place.open()
    photo = store.add(new_photo(1)).id
    with store._database.write() as connection:
        connection.execute(sa.text("UPDATE review_meta SET value = '5' WHERE name = 'version'"))
    told = "expected a review store of version 4, got 5: another version of Superbin has it now"
    for write in (
        lambda: store.review(photo, "anna", Verdict("organic")),
        lambda: store.feedback("request-2", 0, "client:kiosk", Verdict("organic")),
        lambda: store.add(new_photo(2)),
    ):
        with pytest.raises(StoreUnavailable, match=told):
            write()
    assert [one.id for one in store.photos()] == [photo]  # it reads still
    assert (store.counts().reviewed, store.counts().feedback) == (0, 0)


def test_a_database_that_goes_away_is_told_and_comes_back(
    database_server: Postgres, tmp_path: Path
) -> None:
    with open_store(fresh_database(database_server), str(tmp_path / "photos")) as store:
        store.add(new_photo(1))
        database_server.stop()
        try:
            with pytest.raises(StoreUnavailable, match="the review database does not answer"):
                store.add(new_photo(2))
        finally:
            database_server.start()
        store.add(new_photo(2))
        assert store.counts().photos == 2


def test_sqlite_is_set_up_for_several_writers(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/review.db", str(tmp_path / "photos")) as store:
        for transaction in (store._database.read, store._database.write):
            with transaction() as connection:
                found = {
                    name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                    for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
                }
                assert found == {
                    "journal_mode": "wal",
                    "foreign_keys": 1,
                    "synchronous": 2,
                    "busy_timeout": 10_000,
                }


def test_a_photo_that_is_not_one_is_no_photo(place: Place) -> None:
    photo = NewPhoto(b"", "r", 0, "random", "m/1", "organic", 1.0, "sort", {"organic": 1.0})
    with pytest.raises(Exception, match="got 0 bytes"):
        place.open().add(photo)


def test_kinds_that_most_photos_are_of_are_told_first_and_no_more_than_asked(place: Place) -> None:
    with place.open(Rules(double_share=0.0)) as store:
        for seed, kind in enumerate(("can", "jar", None, "jar", "lid", "jar", "lid")):
            store.review(store.add(new_photo(seed)).id, "anna", Verdict("organic", kind))
        assert store.kinds() == ["jar", "lid", "can"]
        assert store.kinds(2) == ["jar", "lid"]


def test_feedback_tells_whether_somebody_else_is_asked(place: Place) -> None:
    store = place.open(TWO_EACH)
    store.add(new_photo(1))

    def say(client: str, superclass: str) -> tuple[bool, bool]:
        found = store.feedback("request-1", 0, client, Verdict(superclass))
        return found.settled, found.asked_on

    for _ in range(2):  # the same client is one person
        assert say("kiosk", "organic") == (False, True)
    assert (store.counts().halfway, store.counts().reviewed) == (1, 0)
    assert say("belt", "residual") == (False, True)
    assert (store.counts().halfway, store.counts().unsettled) == (0, 1)
    assert say("hall", "hazardous") == (False, False)
    assert say("hall", "organic") == (True, False)
