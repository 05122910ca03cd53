"""From answers to the store: which photos, and that answers never wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from service.capture import Capture, Origin
from service.classifier import Answers
from service.metrics import Metrics
from service.review.clock import confirm
from service.review.opening import open_store
from service.review.records import DAY_S, Added, NewPhoto, Rules, Verdict
from service.review.store import Store
from service.schemas import Classification, Reference
from service.selection import Shares, is_contested, reason_to_keep
from service.tags import Tags
from tests.integration.server import until
from tests.postgres import find_pg_ctl, postgres
from tests.review_stores import new_photo

ALL = Shares(uncertain=1.0, contested=1.0, random=1.0)
ORIGIN = Origin("request", 2, "tiny/1", Tags(site="hall", line="1", camera="left"))


def answer(decision: str = "sort", *weights: tuple[str, float]) -> Classification:
    return Classification.model_validate(
        {
            "filename": None,
            "superclass": "organic",
            "confidence": 0.9,
            "probabilities": {"organic": 0.9, "residual": 0.1},
            "decision": decision,
            "references": [
                Reference(id=f"{i}", superclass=s, subclass=None, source=None, weight=w)
                for i, (s, w) in enumerate(weights)
            ],
            "self_weight": 0.0,
        }
    )


def answers() -> Answers:
    floats = np.ones((1, 4), np.float32)
    return Answers(floats, floats / 2, np.zeros((1, 5), np.int64), floats, floats[0])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    url, photos = f"sqlite:///{tmp_path}/review.db", str(tmp_path / "photos")
    with open_store(url, photos, Rules(double_share=0.0)) as store:
        yield store


def counted(metrics: Metrics) -> dict[str, float]:
    families = text_string_to_metric_families(metrics.scrape().decode())
    samples = [s for f in families for s in f.samples if s.name == "superbin_review_photos_total"]
    return {sample.labels["outcome"]: sample.value for sample in samples if sample.value}


def test_what_an_earlier_process_kept_is_counted_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.capture.UPKEEP_S", 3600.0)
    store.add(new_photo(1))
    metrics = Metrics()
    capture = Capture(store, ALL, 4, 1_000_000, metrics)
    try:
        until(lambda: b"superbin_review_stored_photos 1.0" in metrics.scrape(), "the count")
    finally:
        capture.close()


def test_what_the_alert_goes_by_counts_from_zero(store: Store) -> None:
    metrics = Metrics()
    Capture(store, ALL, 4, 1_000_000, metrics).close()
    scrape = metrics.scrape().decode()
    for outcome in ("failed", "full"):
        assert f'superbin_review_photos_total{{outcome="{outcome}"}} 0.0' in scrape


def test_what_is_unsure_contested_or_drawn_is_kept() -> None:
    none = Shares(uncertain=0.0, contested=0.0, random=0.0)
    assert reason_to_keep(answer("manual"), ALL) == "uncertain"
    contested = answer("sort", ("organic", 0.2), ("residual", 0.15), ("residual", 0.15))
    assert reason_to_keep(contested, ALL) == "contested"
    assert reason_to_keep(answer(), ALL) == "random"
    for one in (answer("manual"), contested, answer()):
        assert reason_to_keep(one, none) is None
    kept = [reason_to_keep(answer(), Shares(0.0, 0.0, random=0.5)) for _ in range(400)]
    assert 100 < kept.count("random") < 300


def test_references_contest_an_answer_where_they_had_a_say() -> None:
    assert not is_contested(answer("sort"))
    assert not is_contested(answer("sort", ("residual", 0.2)))  # out of 1: too little
    assert is_contested(answer("sort", ("residual", 0.4)))
    assert not is_contested(answer("sort", ("residual", 0.4), ("organic", 0.5)))


def test_a_photo_goes_to_the_store_with_all_that_is_known_of_it(store: Store) -> None:
    metrics = Metrics()
    capture = Capture(store, ALL, 4, 1_000_000, metrics)
    reason = capture.consider(
        answer("manual", ("residual", 0.4)), answers(), new_photo(1).data, ORIGIN
    )
    assert reason == "uncertain"
    capture.close()
    (kept,) = store.photos()
    assert (kept.request_id, kept.position, kept.model) == ("request", 2, "tiny/1")
    assert (kept.site, kept.line, kept.camera) == ("hall", "1", "left")
    assert kept.references[0].weight == 0.4
    assert kept.embedding is not None
    assert np.frombuffer(kept.embedding, "<f4").tolist() == [0.5] * 4
    assert counted(metrics) == {"kept": 1.0}


def test_a_photo_too_large_to_be_read_is_not_kept(store: Store) -> None:
    capture = Capture(store, ALL, 4, 1_000_000, Metrics())
    assert capture.consider(answer("manual"), answers(), None, ORIGIN) is None
    capture.close()


class Held(Store):
    """A store that keeps nothing until it is let."""

    def __init__(self, store: Store) -> None:
        super().__init__(store._database, store._files, store.rules)
        self.begun, self.let = threading.Event(), threading.Event()

    def add(self, photo: NewPhoto) -> Added:
        self.begun.set()
        self.let.wait()
        return super().add(photo)


def test_where_the_queue_is_full_photos_are_dropped_counted_and_nobody_waits(store: Store) -> None:
    metrics, held = Metrics(), Held(store)
    capture = Capture(held, ALL, 2, 1_000_000, metrics)
    assert capture.offer(new_photo(0))
    held.begun.wait()  # it is being written; two more may wait
    assert [capture.offer(new_photo(seed)) for seed in (1, 2, 3, 4)] == [True, True, False, False]
    held.let.set()
    capture.close()
    assert counted(metrics) == {"dropped": 2.0, "kept": 3.0}
    assert store.counts().photos == 3  # what waited at the end was written


def test_what_is_on_its_way_is_known_and_feedback_waits_for_it(store: Store) -> None:
    held = Held(store)
    capture = Capture(held, ALL, 9, 1_000_000, Metrics())
    capture.offer(new_photo(0))
    held.begun.wait()
    capture.offer(new_photo(1))
    assert capture.awaits("request-0", 0)  # it is being written
    assert capture.awaits("request-1", 0)
    assert not capture.awaits("request-1", 1)
    assert not capture.awaits("request-2", 0)
    capture.offer(new_photo(2, client="kiosk"))
    assert capture.awaits("request-2", 0, "kiosk")
    assert not capture.awaits("request-2", 0, "other")
    assert capture.awaits("request-1", 0, "other")  # nobody's
    assert store.feedback("request-0", 0, "kiosk", Verdict("organic")).photo_id is None
    held.let.set()
    while capture.awaits("request-0", 0) or capture.awaits("request-1", 0):
        held.begun.wait(0)
    (reviewed,) = store.reviewed()
    assert reviewed.photo.request_id == "request-0"
    capture.close()


def test_a_store_that_never_answers_does_not_keep_the_service_from_ending(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.capture.CLOSE_S", 0.2)
    metrics, held = Metrics(), Held(store)
    capture = Capture(held, ALL, 9, 1_000_000, metrics)
    for seed in range(3):
        capture.offer(new_photo(seed))
    held.begun.wait()
    with capture_logs() as logs:
        capture.close()
    assert [(one["log_level"], one["photos"]) for one in logs] == [("error", 3)]
    assert counted(metrics) == {"failed": 3.0}
    held.let.set()
    capture._thread.join()
    assert store.counts().photos == 1  # the one that was being written: the store was left open
    assert counted(metrics) == {"failed": 3.0}  # once each


def test_bytes_in_the_queue_are_bounded_too(store: Store) -> None:
    metrics, held = Metrics(), Held(store)
    one = len(new_photo(1).data)
    capture = Capture(held, ALL, 100, one + 10, metrics)
    assert capture.offer(new_photo(0, data=new_photo(1).data))
    held.begun.wait()
    assert capture.offer(new_photo(1))
    assert not capture.offer(new_photo(2))
    held.let.set()
    capture.close()


def test_what_is_removed_is_logged_and_counted_by_why(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.capture.PRUNE_S", 0.0)
    metrics = Metrics()
    stored = [store.add(new_photo(seed)).id for seed in range(6)]
    store.review(stored[0], "anna", Verdict("organic"))
    full = Store(store._database, store._files, replace(store.rules, max_photos=4), time.time)
    with capture_logs() as logs:
        capture = Capture(full, ALL, 9, 1_000_000, metrics)
        capture.offer(new_photo(6))
        until(lambda: b'removed_photos_total{cause="room"} 3.0' in metrics.scrape(), "room")
        late = time.time() + 400 * DAY_S
        full._now = lambda: late
        capture.offer(new_photo(7))
        until(lambda: any("leapt" in one["event"] for one in logs), "the warning")
        with store._database.write() as connection:
            confirm(connection, late)
        until(lambda: b'{cause="reviewed_age"} 1.0' in metrics.scrape(), "the reviewed one to go")
        capture.close()
    told = {one["event"]: one for one in logs}
    assert told["review photos removed to make room"]["photos"] == 3
    warning = told["review photos stay: the clock leapt"]
    assert warning["log_level"] == "warning"
    assert f"superbin review confirm-clock {store.database_name}" in warning["what_to_do"]
    assert told["review photos removed by age"]["reviewed"] == 1
    assert len([one for one in logs if "leapt" in one["event"]]) == 1


def test_photos_that_cannot_be_kept_are_counted_by_why(store: Store) -> None:
    metrics = Metrics()
    capture = Capture(store, ALL, 9, 1_000_000, metrics)
    capture.offer(new_photo(1, data=b"no photo"))
    capture.offer(new_photo(1))
    capture.offer(new_photo(1))
    capture.close()
    assert counted(metrics) == {"broken": 1.0, "kept": 1.0, "duplicate": 1.0}


def test_a_photo_outlives_a_database_that_is_away_for_a_while(tmp_path: Path) -> None:
    pg_ctl = find_pg_ctl()
    if pg_ctl is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    with postgres(pg_ctl) as server:
        metrics = Metrics()
        store = open_store(server.url, str(tmp_path / "photos"))
        failed = threading.Event()
        capture = Capture(Watched(store, failed), ALL, 9, 1_000_000, metrics)
        server.stop()
        try:
            assert capture.offer(new_photo(1))
            assert failed.wait(30)
        finally:
            server.start()
        capture.offer(new_photo(2))
        while counted(metrics) != {"kept": 2.0}:
            failed.wait(0)
        capture.close()


class Watched(Store):
    """A store that says when it has failed."""

    def __init__(self, store: Store, failed: threading.Event) -> None:
        super().__init__(store._database, store._files, store.rules)
        self._failed = failed

    def add(self, photo: NewPhoto) -> Added:
        try:
            return super().add(photo)
        except Exception:
            self._failed.set()
            raise
