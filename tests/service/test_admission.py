"""Who gets in, what it holds, and what the others are told."""

from __future__ import annotations

import pytest

from service.admission import Admission, QueueFull, Stopping, TooSlow
from service.cost import Backlog
from service.metrics import Metrics

IDLE = Backlog()


def admission(photos: int = 10, nbytes: int = 1000) -> Admission:
    return Admission(
        max_photos=photos,
        max_bytes=nbytes,
        max_request_photos=9,
        metrics=Metrics(),
    )


def drained(rate: float, photos: int) -> Backlog:
    """A backlog of so many photos that was seen to drain at so many a second."""
    backlog = Backlog()
    backlog.enter(photos + 21)
    for step in range(21):
        backlog.answered(1, step / rate)
    return backlog


def test_places_are_given_whole_or_not_at_all_and_given_back() -> None:
    gate = admission()
    with gate.admit(IDLE, 6, 100, 30.0):
        with (
            pytest.raises(QueueFull, match="at most 10 photos in the queue, which holds 6, and 5"),
            gate.admit(IDLE, 5, 100, 30.0),
        ):
            pass
        with (
            pytest.raises(QueueFull, match=r"at most 1,000 bytes .* holds 100, and 901 came"),
            gate.admit(IDLE, 1, 901, 30.0),
        ):
            pass
        with gate.admit(IDLE, 4, 900, 30.0):
            pass
    with pytest.raises(ValueError, match="any"), gate.admit(IDLE, 10, 1000, 30.0):
        raise ValueError("any")
    with gate.admit(IDLE, 10, 1000, 30.0):
        pass


def test_what_really_came_takes_the_place_of_the_guess() -> None:
    gate = admission()
    with gate.admit(IDLE, None, 900, 30.0) as place:
        assert place.photos == 1  # nothing is known yet
        gate.settle(place, 9, 450)
        with gate.admit(IDLE, 1, 550, 30.0):
            pass
    with gate.admit(IDLE, None, 400, 30.0) as place:
        assert place.photos == 8  # of 50 bytes each
        with (
            pytest.raises(QueueFull, match="holds 8, and 3 came"),
            gate.admit(IDLE, 1, 1, 30.0) as other,
        ):
            gate.settle(other, 3, 1)
        gate.settle(place, 8, 400)
    with gate.admit(IDLE, None, 900, 30.0) as place:
        assert place.photos == 9  # no more than a request may bring


def test_when_to_come_back_follows_from_the_rate_of_draining() -> None:
    gate, backlog = admission(), drained(rate=2.0, photos=0)
    with gate.admit(backlog, 10, 10, 30.0):
        for photos, seconds in ((1, 1), (7, 4), (10, 5)):
            with pytest.raises(QueueFull) as full, gate.admit(backlog, photos, 10, 30.0):
                pass
            assert full.value.retry_after_s == seconds
    backlog = drained(rate=0.001, photos=0)
    with gate.admit(backlog, 10, 10, 1e9), pytest.raises(QueueFull) as full:
        gate.admit(backlog, 1, 10, 1e9).__enter__()
    assert full.value.retry_after_s == 60  # at most


def test_who_cannot_be_answered_in_time_is_told_at_once() -> None:
    gate, backlog = admission(), drained(rate=2.0, photos=10)
    with pytest.raises(TooSlow, match=r"within 3 s, .* take about 5\.0 s") as slow:
        gate.admit(backlog, 1, 10, 3.0).__enter__()
    assert slow.value.retry_after_s == 3
    with gate.admit(backlog, 1, 10, 6.0), gate.admit(IDLE, 1, 10, 3.0):
        pass


def test_an_idle_service_refuses_nobody_for_a_slow_past() -> None:
    backlog = drained(rate=0.1, photos=0)
    with admission().admit(backlog, 1, 10, 0.001):
        pass
    backlog.enter(1)
    backlog.answered(1, now=100.0, turn_s=20.0)
    with admission().admit(backlog, 1, 10, 0.5):
        pass


def test_a_service_that_stops_takes_nothing_new() -> None:
    gate = admission()
    gate.close()
    with pytest.raises(Stopping), gate.admit(IDLE, 1, 10, 30.0):
        pass
