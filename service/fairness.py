"""The order in which photos are taken: interactive before bulk, and clients in turn.

One sender of a thousand photos costs a sender of one no more than the turn that runs just then.
Neither is starved: bulk that has waited half of its time and interactive photos take turns.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """What can stand in the queue; times are of `time.monotonic`."""

    client: str
    bulk: bool
    since: float
    deadline: float


T = TypeVar("T", bound=Waiting)


class FairQueue(Generic[T]):
    """A queue with a lane for interactive photos and one for bulk. Not thread-safe by itself."""

    def __init__(self) -> None:
        self._interactive: _Lane[T] = _Lane()
        self._bulk: _Lane[T] = _Lane()
        self._bulk_was_last = False  # of those that were taken

    def __len__(self) -> int:
        return len(self._interactive) + len(self._bulk)

    def push(self, photo: T) -> None:
        """Put a photo behind its client's others."""
        (self._bulk if photo.bulk else self._interactive).push(photo)

    def put_back(self, photo: T) -> None:
        """Let a photo that was taken be the next again."""
        (self._bulk if photo.bulk else self._interactive).put_back(photo)

    def peek(self, now: float) -> T:
        """The photo that `pop` would take.

        Raises:
            IndexError: where none waits.
        """
        return self._lane(now).first()

    def firsts(self) -> Iterator[T]:
        """The photo of each client that is next, interactive and bulk."""
        yield from self._interactive.firsts()
        yield from self._bulk.firsts()

    def pop(self, now: float) -> T:
        """Take the next photo; its client then waits for all others.

        Raises:
            IndexError: where none waits.
        """
        lane = self._lane(now)
        self._bulk_was_last = lane is self._bulk
        return lane.pop()

    def drop(self, now: float) -> None:
        """Take the next photo where nobody wants it; its client has not had a turn by that.

        Raises:
            IndexError: where none waits.
        """
        self._lane(now).pop(turn=False)

    def passed(self, client: str, bulk: bool, photos: int, now: float) -> int:
        """How many of those that wait would still be behind a client's new photos, the last too."""
        if bulk:
            return self._bulk.passed(client, photos)
        passed = self._interactive.passed(client, photos)
        if not self._overdue(now):
            return passed + len(self._bulk)
        turns = len(self._interactive) + photos - passed  # and as many of bulk
        return passed + max(0, len(self._bulk) - turns + self._bulk_was_last)

    def _lane(self, now: float) -> _Lane[T]:
        if not len(self._interactive):
            return self._bulk
        bulk = self._overdue(now) and not self._bulk_was_last
        return self._bulk if bulk else self._interactive

    def _overdue(self, now: float) -> bool:
        """Whether bulk has waited for half of its time."""
        if not len(self._bulk):
            return False
        oldest = self._bulk.first()
        return now - oldest.since >= oldest.deadline - now


class _Lane(Generic[T]):
    """Clients in turn, and for each its photos in order."""

    def __init__(self) -> None:
        self._clients: OrderedDict[str, deque[T]] = OrderedDict()
        self._photos = 0

    def __len__(self) -> int:
        return self._photos

    def push(self, photo: T) -> None:
        self._clients.setdefault(photo.client, deque()).append(photo)
        self._photos += 1

    def put_back(self, photo: T) -> None:
        self._clients.setdefault(photo.client, deque()).appendleft(photo)
        self._clients.move_to_end(photo.client, last=False)
        self._photos += 1

    def first(self) -> T:
        if not self._clients:
            raise IndexError("nobody waits")
        return next(iter(self._clients.values()))[0]

    def firsts(self) -> Iterator[T]:
        return (photos[0] for photos in self._clients.values())

    def passed(self, client: str, photos: int) -> int:
        turns = len(self._clients.get(client, ())) + photos  # of the client, with its last new one
        behind = 0
        for name, own in self._clients.items():
            if name == client:
                turns -= 1  # those that come after it have had one less by then
            else:
                behind += max(0, len(own) - turns)
        return behind

    def pop(self, *, turn: bool = True) -> T:
        if not self._clients:
            raise IndexError("nobody waits")
        client, photos = next(iter(self._clients.items()))
        photo = photos.popleft()
        self._photos -= 1
        if not photos:
            del self._clients[client]
        elif turn:
            self._clients.move_to_end(client)
        return photo
