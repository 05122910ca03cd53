"""Who gets in, what it holds, and what the others are told."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

import pytest

from service.admission import UPLOADS_S, Admission, Place, QueueFull, Stopping, TooSlow
from service.cost import Backlog
from service.fairness import FairQueue
from service.metrics import Metrics

IDLE = Backlog()


@dataclass
class Waiting:
    client: str
    bulk: bool
    since: float
    deadline: float


def admission(photos: int = 10, nbytes: int = 1000, share: float = 1.0) -> Admission:
    return Admission(
        max_photos=photos,
        max_bytes=nbytes,
        interactive_photos=4,
        client_share=share,
        metrics=Metrics(),
    )


def drained(rate: float, photos: int) -> Backlog:
    """A backlog of so many photos that was seen to drain at so many a second."""
    backlog = Backlog()
    backlog.enter(photos + 21, -1.0 / rate)
    for step in range(21):
        backlog.answered(1, step / rate)
    return backlog


def test_places_are_given_whole_or_not_at_all_and_given_back() -> None:
    gate = admission()
    with gate.admit(IDLE, "a", 6, 100, 30.0):
        with (
            pytest.raises(
                QueueFull, match=r"at most 10 photos in the queue, which holds 6 .*, and 5"
            ),
            gate.admit(IDLE, "a", 5, 100, 30.0),
        ):
            pass
        with (
            pytest.raises(QueueFull, match=r"at most 1,000 bytes .* holds 100 .*, and 901 came"),
            gate.admit(IDLE, "a", 1, 901, 30.0),
        ):
            pass
        with gate.admit(IDLE, "a", 4, 900, 30.0):
            pass
    with pytest.raises(ValueError, match="any"), gate.admit(IDLE, "a", 10, 1000, 30.0):
        raise ValueError("any")
    with gate.admit(IDLE, "a", 10, 1000, 30.0):
        pass


def test_a_form_holds_places_for_what_came() -> None:
    gate = admission()
    with gate.admit(IDLE, "a", None, 900, 30.0) as place:
        assert place.photos == 1
        gate.grow(place, 9, 0)
        assert place.photos == 9
        with (
            pytest.raises(QueueFull, match=r"holds 9 \(9 of this client\), and 3 came"),
            gate.admit(IDLE, "a", None, 1, 30.0) as other,
        ):
            gate.grow(other, 3, 0)
        gate.settle(place, 8, 450)
        with gate.admit(IDLE, "a", 1, 550, 30.0):
            pass


def test_when_to_come_back_follows_from_the_rate_of_draining() -> None:
    gate, backlog = admission(), drained(rate=2.0, photos=1)
    with gate.admit(backlog, "a", 10, 10, 30.0):
        for photos, seconds in ((1, 1), (7, 4), (10, 5)):
            with pytest.raises(QueueFull) as full, gate.admit(backlog, "a", photos, 10, 30.0):
                pass
            assert full.value.retry_after_s == seconds
    backlog = drained(rate=0.001, photos=1)
    with gate.admit(backlog, "a", 10, 10, 1e9), pytest.raises(QueueFull) as full:
        gate.admit(backlog, "a", 1, 10, 1e9).__enter__()
    assert full.value.retry_after_s == 60  # at most


def test_bytes_are_waited_for_by_what_photos_have_of_them() -> None:
    gate, backlog = admission(), drained(rate=2.0, photos=1)
    with gate.admit(backlog, "a", None, 1000, 30.0) as place:
        gate.settle(place, 10, 1000)
        with pytest.raises(QueueFull, match="bytes") as full:
            gate.admit(backlog, "a", 0, 300, 30.0).__enter__()
    assert full.value.retry_after_s == 2  # three photos


def test_where_bodies_on_their_way_hold_everything_nobody_is_told_to_come_back_at_once() -> None:
    gate, backlog = admission(), drained(rate=100.0, photos=0)
    with gate.admit(backlog, "a", 10, 10, 30.0), pytest.raises(QueueFull) as full:
        gate.admit(backlog, "b", 1, 10, 30.0).__enter__()
    assert full.value.retry_after_s == UPLOADS_S


@pytest.mark.parametrize("unit", ["photos", "bytes"])
def test_one_client_leaves_room_for_others(unit: str) -> None:
    def admit(client: str, number: int) -> AbstractContextManager[Place]:
        photos, nbytes = (number, 0) if unit == "photos" else (0, number)
        return gate.admit(IDLE, client, photos, nbytes, 30.0)

    gate = admission(photos=100, nbytes=100, share=0.8)
    with ExitStack() as held:
        for _ in range(8):
            held.enter_context(admit("bulk", 10))
        with pytest.raises(QueueFull, match=f"4 times .* 100 {unit}, .* 80 .80 of this client.*1 "):
            admit("bulk", 1).__enter__()
        held.enter_context(admit("single", 1))
        held.enter_context(admit("other", 15))
        with pytest.raises(QueueFull, match="one client"):
            admit("other", 1).__enter__()
        held.enter_context(admit("third", 1))
    with admit("bulk", 100):  # where nothing else is there it costs nobody anything
        pass
    assert not gate._clients


def test_a_body_of_unknown_length_holds_what_came_of_it() -> None:
    gate = admission(share=0.8)
    with gate.admit(IDLE, "a", 1, 100, 30.0) as place:
        gate.grow(place, 0, 50)
        assert place.nbytes == 100
        gate.grow(place, 0, 700)
        with gate.admit(IDLE, "b", 1, 100, 30.0), pytest.raises(QueueFull, match="1,000 bytes"):
            gate.grow(place, 0, 1000)
        assert place.nbytes == 700


def test_an_interactive_request_waits_for_no_bulk() -> None:
    gate, backlog = admission(photos=500), drained(rate=2.0, photos=100)
    queue: FairQueue[Waiting] = FairQueue()
    for _ in range(100):
        queue.push(Waiting("bulk", True, since=0.0, deadline=60.0))
    backlog.passed = lambda client, bulk, photos: queue.passed(client, bulk, photos, 1.0)
    with gate.admit(backlog, "single", 4, 10, 3.0):
        pass
    with pytest.raises(TooSlow, match=r"that go before take about 50\.0 s"):
        gate.admit(backlog, "bulk", 5, 10, 30.0).__enter__()
    with gate.admit(backlog, "bulk", 1, 10, 3.0) as place, pytest.raises(TooSlow):
        gate.settle(place, 5, 10)  # more than it said
    with gate.admit(backlog, "other", 5, 10, 6.0):  # which takes turns with the one that is there
        pass
    for _ in range(10):
        queue.push(Waiting("busy", False, since=0.0, deadline=60.0))
        backlog.enter(1, 0.0)
    with gate.admit(backlog, "single", 1, 10, 3.0):
        pass
    with pytest.raises(TooSlow, match=r"that go before take about 5\.0 s"):
        gate.admit(backlog, "busy", 1, 10, 3.0).__enter__()


def test_who_cannot_be_answered_in_time_is_told_at_once() -> None:
    gate, backlog = admission(), drained(rate=2.0, photos=10)
    with pytest.raises(TooSlow, match=r"within 3 s, .* take about 5\.0 s") as slow:
        gate.admit(backlog, "a", 1, 10, 3.0).__enter__()
    assert slow.value.retry_after_s == 3
    with gate.admit(backlog, "a", 1, 10, 6.0), gate.admit(IDLE, "a", 1, 10, 3.0):
        pass


def test_an_idle_service_refuses_nobody_for_a_slow_past() -> None:
    backlog = drained(rate=0.1, photos=0)
    with admission().admit(backlog, "a", 1, 10, 0.001):
        pass
    backlog.enter(1, 0.0)
    backlog.answered(1, now=100.0, turn_s=20.0)
    with admission().admit(backlog, "a", 1, 10, 0.5):
        pass


def test_a_service_that_stops_takes_nothing_new() -> None:
    gate = admission()
    gate.close()
    with pytest.raises(Stopping), gate.admit(IDLE, "a", 1, 10, 30.0):
        pass
