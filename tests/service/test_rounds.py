"""What is done again and again."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from structlog.testing import capture_logs

from service.rounds import every


def test_a_round_that_fails_is_logged_and_the_next_one_comes() -> None:
    rounds = []

    async def fail() -> None:
        rounds.append(len(rounds))
        if len(rounds) == 3:
            raise asyncio.CancelledError
        raise OSError("the disk is full")

    with capture_logs() as lines, suppress(asyncio.CancelledError):
        asyncio.run(every(0.0, "counting", fail))
    assert [line["of"] for line in lines] == ["counting", "counting"]
