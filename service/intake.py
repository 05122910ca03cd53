"""From a request to photos that are admitted: what every route that takes photos does first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.requests import ClientDisconnect, Request

from service.batching import Outcome, result_of
from service.errors import SuperbinError
from service.preprocess import Pixels, decode
from service.registry import LoadedModel
from service.serving import Serving, serving
from service.uploads import Upload, announce, receive

UNWATCHED_S = 0.02
Futures = list[asyncio.Future[Outcome]]


@dataclass(frozen=True)
class Intake:
    """The photos of one request, while its places are held."""

    held: Serving
    model: LoadedModel
    request: Request
    client: str
    uploads: list[Upload]
    timeout_s: float
    read_s: float

    def _shadowed(self, outcomes: Futures) -> None:
        """Let the shadow, if there is one and it wants these, run them too."""
        shadow = self.held.shadow
        if shadow and shadow.model.manifest.name == self.model.manifest.name and shadow.wants():
            pairs = zip(self.uploads, outcomes, strict=True)
            whole = [(upload.data, outcome) for upload, outcome in pairs if upload.data is not None]
            shadow.follow([data for data, _ in whole], [outcome for _, outcome in whole])

    @contextmanager
    def submitted(self) -> Iterator[Futures]:
        """Hand them to the scheduler; at the end what is not answered is dropped."""
        spec, limits = self.model.manifest.preprocessing, self.held.settings.photo_limits

        def load(upload: Upload) -> Pixels:
            return decode(upload.read(limits.max_bytes), spec, limits)

        with self.model.scheduler.submitted(
            [partial(load, upload) for upload in self.uploads],
            client=self.client,
            bulk=len(self.uploads) > self.held.settings.interactive_photos,
            timeout_s=self.timeout_s,
        ) as outcomes:
            self._shadowed(outcomes)
            yield outcomes


@asynccontextmanager
async def intake(request: Request, model: str | None) -> AsyncIterator[Intake]:
    """Admit a request by its headers, then read its photos.

    Args:
        model: `name` or `name/version`; None for the default one.

    Raises:
        SuperbinError: of `service.keys`, `.quota`, `.registry`, `.uploads` and `.admission`, before
            anything is decoded.
    """
    held = serving(request)
    client = identify(request)
    held.quota.check(client)
    announced = announce(request, held.settings)
    with (
        held.registry.find(model).lease() as chosen,
        held.admission.admit(
            chosen.scheduler.backlog, announced.photos, announced.nbytes, announced.timeout_s
        ) as place,
    ):
        started = time.perf_counter()
        uploads = await receive(request, announced, held.settings)
        read_s = time.perf_counter() - started
        request.state.photos = len(uploads)
        held.quota.charge(client, len(uploads))
        held.admission.settle(place, len(uploads), sum(upload.size for upload in uploads))
        yield Intake(held, chosen, request, client, uploads, announced.timeout_s, read_s)


def identify(request: Request) -> str:
    """The holder of the request's key; where no keys are set, the address that it came from.

    Raises:
        KeyRefused: where keys are set and none of them came.
    """
    holder = serving(request).keys.client(key_of(request))
    return holder or (request.client.host if request.client else "")


def identify_admin(request: Request) -> str:
    """The holder of an admin key.

    Raises:
        AdminOff, KeyRefused: where none is set or none of them came.
    """
    return serving(request).keys.admin(key_of(request))


def key_of(request: Request) -> str | None:
    """From `Authorization: Bearer` or `X-API-Key`."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key")


async def results_unless_gone(request: Request, outcomes: Futures) -> list[Outcome | SuperbinError]:
    """What came of a request's photos, in order.

    Raises:
        ClientDisconnect: where the client left first.
    """
    # Most are answered before it is worth a task to watch for the client.
    _, waiting = await asyncio.wait(outcomes, timeout=UNWATCHED_S)
    if waiting:
        await _unless_gone(request, asyncio.wait(waiting))
    return [result_of(outcome) for outcome in outcomes]


async def _unless_gone(request: Request, work: Coroutine[Any, Any, object]) -> None:
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    """Return when the client has gone; the body was read, so nothing else can come."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
