"""Clients take turns, interactive photos go first, and nobody waits for ever."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.fairness import FairQueue


@dataclass(frozen=True)
class Photo:
    client: str
    number: int = 0
    bulk: bool = False
    since: float = 0.0
    deadline: float = 100.0


def drain(queue: FairQueue[Photo], now: float = 0.0) -> list[Photo]:
    return [queue.pop(now) for _ in range(len(queue))]


def filled(*photos: Photo) -> FairQueue[Photo]:
    queue: FairQueue[Photo] = FairQueue()
    for photo in photos:
        queue.push(photo)
    return queue


def test_clients_take_turns_and_each_keeps_its_order() -> None:
    queue = filled(*(Photo("a", n) for n in range(3)), Photo("b", 0), Photo("c", 0), Photo("b", 1))
    order = [(photo.client, photo.number) for photo in drain(queue)]
    assert order == [("a", 0), ("b", 0), ("c", 0), ("a", 1), ("b", 1), ("a", 2)]


def test_interactive_photos_go_before_bulk() -> None:
    bulk, one = Photo("a", bulk=True), Photo("b")
    assert drain(filled(bulk, one)) == [one, bulk]


def test_bulk_that_has_waited_half_of_its_time_goes_first() -> None:
    old, young = Photo("a", bulk=True), Photo("b", bulk=True, since=40.0)
    queue = filled(young, old, Photo("c", since=49.0))
    assert queue.pop(49.9).client == "c"
    queue = filled(old, young, Photo("c", since=49.0), Photo("c", since=49.0))
    assert [photo.client for photo in drain(queue, 50.0)] == ["a", "c", "c", "b"]


def test_an_empty_queue_has_nothing_to_take() -> None:
    queue = filled()
    for take in (queue.pop, queue.peek):
        with pytest.raises(IndexError):
            take(0.0)


PHOTOS = st.lists(
    st.builds(
        Photo,
        client=st.sampled_from("abcd"),
        number=st.integers(0, 5),
        bulk=st.booleans(),
        since=st.floats(0, 50),
    )
)


@given(PHOTOS, st.floats(0, 100))
def test_each_photo_comes_out_once_and_a_clients_own_in_order(
    photos: list[Photo], now: float
) -> None:
    queue = filled(*photos)
    assert len(queue) == len(photos)
    out = []
    while len(queue):
        first = queue.peek(now)
        assert queue.pop(now) is first
        out.append(first)
    for client in "abcd":
        for bulk in (False, True):
            lane = [id(p) for p in photos if (p.client, p.bulk) == (client, bulk)]
            assert [id(p) for p in out if (p.client, p.bulk) == (client, bulk)] == lane


@given(st.lists(st.integers(1, 8), min_size=1, max_size=6))
def test_a_client_never_waits_for_two_photos_of_another_in_a_row(counts: list[int]) -> None:
    photos = [Photo(str(client), n) for client, count in enumerate(counts) for n in range(count)]
    left = dict(enumerate(counts))
    last = None
    for photo in drain(filled(*photos)):
        others = any(count for client, count in left.items() if str(client) != last)
        assert photo.client != last or not others
        last = photo.client
        left[int(last)] -= 1


@given(PHOTOS, st.sampled_from("abcd"), st.booleans(), st.integers(1, 4))
def test_it_is_known_beforehand_how_many_new_photos_go_before(
    photos: list[Photo], client: str, bulk: bool, number: int
) -> None:
    queue = filled(*photos)
    passed = queue.passed(client, bulk, number, 0.0)
    new = [Photo(client, -1, bulk) for _ in range(number)]
    for photo in new:
        queue.push(photo)
    order = drain(queue)
    last = max(index for index, photo in enumerate(order) if any(photo is one for one in new))
    assert passed == len(order) - 1 - last


def test_bulk_that_has_waited_for_long_and_interactive_photos_take_turns() -> None:
    bulk = [Photo("a", n, bulk=True) for n in range(4)]
    order = drain(filled(*bulk, Photo("b"), Photo("b"), Photo("c")), 50.0)
    assert [photo.client for photo in order] == ["a", "b", "a", "c", "a", "b", "a"]


@given(st.integers(0, 9), st.integers(0, 4), st.booleans(), st.integers(1, 4))
def test_what_goes_before_bulk_that_has_waited_for_long_is_known_too(
    bulk: int, others: int, began: bool, number: int
) -> None:
    queue = filled(*(Photo("a", bulk=True) for _ in range(bulk + began)))
    if began:
        queue.pop(50.0)
    for _ in range(others):
        queue.push(Photo("b"))
    passed = queue.passed("c", False, number, 50.0)
    for _ in range(number):
        queue.push(Photo("c"))
    order = drain(queue, 50.0)
    assert passed == [photo.client for photo in reversed(order)].index("c")


@given(PHOTOS, st.integers(1, 5))
def test_what_was_put_back_comes_next_and_in_its_order(photos: list[Photo], number: int) -> None:
    queue = filled(*photos)
    taken = [queue.pop(0.0) for _ in range(min(number, len(photos)))]
    for photo in reversed(taken[1:]):
        queue.put_back(photo)
    again = [queue.pop(0.0) for _ in taken[1:]]
    clients = [photo.client for photo in taken[1:]]
    if len({*clients}) == len(clients) and len({photo.bulk for photo in taken}) == 1:
        assert [id(photo) for photo in again] == [id(photo) for photo in taken[1:]]
    assert len(queue) == len(photos) - len(taken)
    rest = [id(photo) for photo in taken[:1] + again + drain(queue)]
    assert sorted(rest) == sorted(id(photo) for photo in photos)
    for client in "abcd":
        for bulk in (False, True):
            lane = [id(p) for p in photos if (p.client, p.bulk) == (client, bulk)]
            assert [one for one in rest if one in lane] == lane
