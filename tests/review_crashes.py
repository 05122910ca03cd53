"""A process that works on a review store and is killed with SIGKILL, which nothing can catch.

    python -m tests.review_crashes lines FOLDER URL [STEP]    kills at every line, one fork each
    python -m tests.review_crashes busy FOLDER URL            works until somebody kills it

Every fork does a whole life: keep, replace under a full store, take, review, skip, undo, feedback,
prune. It says on a pipe what has been accepted, so that the parent knows what must be there.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from service.review.clock import confirm
from service.review.database import Database
from service.review.opening import open_store
from service.review.records import Rules, Verdict
from service.review.schema import metadata
from service.review.store import Store
from tests.review_stores import new_photo

REVIEW = str(Path(open_store.__code__.co_filename).parent)
RULES = Rules(max_photos=3, double_share=0.0, retention_days=10.0)
START, LATER = 1_700_000_000.0, 1_700_900_000.0


def live(store: Store, tell: int) -> None:
    """A store's life; what it accepted is told at once, one line of JSON each."""

    def say(**words: object) -> None:
        os.write(tell, json.dumps(words).encode() + b"\n")

    first = store.add(new_photo(100)).id
    say(kept=first)
    second = store.add(new_photo(101)).id
    say(kept=second)
    store.take("anna", 2)
    store.skip(first, "anna")
    store.review(second, "anna", Verdict("residual"))
    say(reviewed=second, superclass="residual")
    store.undo(second, "anna")
    say(reviewed=second, superclass=None)
    store.review(second, "anna", Verdict("hazardous", "battery"))
    say(reviewed=second, superclass="hazardous")
    store.feedback("request-102", 0, "client:kiosk", Verdict("organic"))
    third = store.add(new_photo(102)).id  # fills it, and has feedback already
    say(kept=third)
    say(reviewed=third, superclass="organic")
    say(leaving=first)
    fourth = store.add(new_photo(103)).id  # the oldest that nobody reviewed goes
    say(kept=fourth)
    say(leaving=fourth)
    say(leaving=third)  # of which only a client said something
    store._now = lambda: LATER
    with store._database.write() as connection:
        confirm(connection, LATER)
    store.prune()
    say(done=True)


def check(store: Store, told: list[dict[str, Any]]) -> None:
    """Everything that was accepted is there, whole; nothing is there that is not whole."""
    files = set(store._files.listed())
    photos = {one.id: one for one in store.photos()}
    assert {one.sha256 for one in photos.values()} == files  # no row without, no orphan left
    assert all(len(one.load()) == one.nbytes for one in photos.values())
    parts = list(Path(store._files.url).rglob("*.part"))
    assert len(parts) <= 1
    kept = {one["kept"] for one in told if "kept" in one}
    leaving = {one["leaving"] for one in told if "leaving" in one}
    assert kept - leaving <= set(photos), (kept, leaving, set(photos))
    said = {one["reviewed"]: one["superclass"] for one in told if "reviewed" in one}
    found = {one.photo.id: one.superclass for one in store.reviewed()}
    last = next((one for one in reversed(told) if "reviewed" in one), None)
    for photo, superclass in said.items():
        if photo in leaving or (last and photo == last["reviewed"] and told[-1] == last):
            continue  # the next word on it may or may not have been heard
        assert found.get(photo) == superclass, (photo, superclass, found)
    store.add(new_photo(7))  # and it goes on


def killed_at(line: int) -> Any:
    """A tracer that kills the process before it runs the nth line of the store's modules."""
    left = line

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.startswith(REVIEW):
            return trace if event == "call" else None
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


def run_killed(folder: Path, url: str, line: int) -> tuple[bool, list[dict[str, Any]]]:
    """Fork, live, be killed; whether it was, and what it had told before."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            sys.settrace(killed_at(line))
            live(open_store(url, str(folder / "photos"), RULES, lambda: START), writing)
        finally:
            sys.settrace(None)
            os._exit(0 if sys.exc_info()[0] is None else 1)
    os.close(writing)
    with os.fdopen(reading) as lines:
        told = [json.loads(one) for one in lines]
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True, told
    assert status == 0, f"the life of a store failed by itself: {told}"
    return False, told


def every_line(folder: Path, url: str, step: int) -> Iterator[int]:
    """Kill at the first line of a fresh store, then `step` lines later, until it lives on."""
    line = 1 - step
    alive = False
    while not alive:
        line += step
        forget(folder, url)
        killed, told = run_killed(folder, url, line)
        alive = not killed
        try:
            with open_store(url, str(folder / "photos"), RULES, lambda: START) as store:
                check(store, told)
        except BaseException:
            print(f"after a kill at line {line}, having told {told}", file=sys.stderr)
            raise
        yield line


def forget(folder: Path, url: str) -> None:
    """Begin anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if url.startswith("postgresql"):
        database = Database(url)
        with database.write() as connection:
            metadata.drop_all(connection)
        database.close()


def busy(folder: Path, url: str) -> None:
    """Keep and review photos until killed; each is told once it is accepted."""
    store = open_store(url, str(folder / "photos"), Rules(double_share=0.0))
    for seed in range(100_000):
        photo = store.add(new_photo(seed)).id
        print(json.dumps({"kept": photo}), flush=True)
        store.review(photo, "anna", Verdict("organic"))
        print(json.dumps({"reviewed": photo}), flush=True)


def main(what: str, folder: str, url: str, step: str = "1") -> None:
    """See the module."""
    if what == "busy":
        busy(Path(folder), url)
    else:
        kills = sum(1 for _ in every_line(Path(folder), url, int(step))) - 1
        print(f"killed {kills} times, and nothing that was accepted was lost")


if __name__ == "__main__":
    main(*sys.argv[1:])
