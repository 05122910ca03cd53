"""From a request to photos that are admitted: what every route that takes photos does first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from service.batching import Outcome
from service.preprocess import Pixels, decode
from service.serving import Serving, serving
from service.uploads import Upload, announce, receive

T = TypeVar("T")
Futures = list[asyncio.Future[Outcome]]


@dataclass(frozen=True)
class Intake:
    """The photos of one request, while its places are held."""

    held: Serving
    request: Request
    uploads: list[Upload]
    timeout_s: float
    read_s: float

    def submitted(self) -> AbstractContextManager[Futures]:
        """Hand them to the scheduler; at the end what is not answered is dropped."""
        spec, limits = self.held.manifest.preprocessing, self.held.settings.photo_limits

        def load(upload: Upload) -> Pixels:
            return decode(upload.read(limits.max_bytes), spec, limits)

        loads = [partial(load, upload) for upload in self.uploads]
        return submitted(self.held, self.request, loads, self.timeout_s)


@asynccontextmanager
async def intake(request: Request) -> AsyncIterator[Intake]:
    """Admit a request by its headers, then read its photos.

    Raises:
        SuperbinError: of `service.uploads` and `service.admission`, before anything is decoded.
    """
    held = serving(request)
    announced = announce(request, held.settings)
    with held.admission.admit(announced.photos, announced.nbytes, announced.timeout_s) as place:
        started = time.perf_counter()
        async with receive(request, announced, held.settings) as uploads:
            read_s = time.perf_counter() - started
            request.state.photos = len(uploads)
            held.admission.settle(place, len(uploads), sum(upload.size for upload in uploads))
            yield Intake(held, request, uploads, announced.timeout_s, read_s)


def submitted(
    held: Serving, request: Request, loads: Sequence[Callable[[], Pixels]], timeout_s: float
) -> AbstractContextManager[Futures]:
    """Hand photos to the scheduler, in the name of who sent the request."""
    return held.scheduler.submitted(
        loads,
        client=request.client.host if request.client else "",
        bulk=len(loads) > held.settings.interactive_photos,
        timeout_s=timeout_s,
    )


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, and drop it where the client leaves first.

    Raises:
        ClientDisconnect: where it did.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    """Return when the client has gone; the body was read, so nothing else can come."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
