"""From a request to photos that are admitted: what every route that takes photos does first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial

from starlette.requests import ClientDisconnect, Request

from service.admission import Place
from service.errors import SuperbinError
from service.photos import Outcome, result_of
from service.preprocess import Pixels, decode
from service.registry import LoadedModel
from service.serving import Serving, serving
from service.settings import Settings
from service.sorting import Rules
from service.tags import UNTOLD, Tags, read_tags
from service.uploads import Announced, Upload, announce, receive

UNWATCHED_S = 0.02
Futures = list[asyncio.Future[Outcome]]


@dataclass(frozen=True)
class Admitted:
    """A request whose places are held: who sent it, and what answers it."""

    held: Serving
    request: Request
    client: str
    model: LoadedModel
    place: Place
    announced: Announced
    tags: Tags

    @property
    def rules(self) -> Rules | None:
        """Of the photos' site.

        Raises:
            SiteUnknown: where they are gone in the meantime.
        """
        return self.held.rulebook.find(self.tags.site)

    def settle(self, photos: int, nbytes: int) -> None:
        """Say what really came.

        Raises:
            QueueFull, Stopping: where it does not fit.
        """
        self.request.state.photos = photos
        self.held.quota.charge(self.client, photos)
        self.held.admission.settle(self.place, photos, nbytes)

    def submitted(self, loads: Sequence[Callable[[], Pixels]]) -> AbstractContextManager[Futures]:
        """Hand photos to the scheduler; at the end what is not answered is dropped."""
        return self.model.scheduler.submitted(
            loads,
            client=self.client,
            bulk=len(loads) > self.held.settings.interactive_photos,
            timeout_s=self.announced.timeout_s,
        )


@contextmanager
def admitted(
    request: Request, model: str | None, announce: Callable[[Request, Settings], Announced]
) -> Iterator[Admitted]:
    """Let a request in, or not, before its body is read.

    Args:
        model: `name` or `name/version`; None for the default one.
        announce: reads what the headers tell of the body.

    Raises:
        SuperbinError: of `service.keys`, `.quota`, `.tags`, `.rulebook`, `.registry` and
            `.admission`, or of `announce`.
    """
    held = serving(request)
    client = identify(request)
    held.quota.check(client)
    tags = _tags(request, held, client)
    announced = announce(request, held.settings)
    with (
        held.registry.find(model).lease() as chosen,
        held.admission.admit(
            chosen.scheduler.backlog, announced.photos, announced.nbytes, announced.timeout_s
        ) as place,
    ):
        yield Admitted(held, request, client, chosen, place, announced, tags)


def _tags(request: Request, held: Serving, client: str) -> Tags:
    """What the request tells; of the site otherwise what its key or the settings tell.

    Raises:
        TagMalformed, SiteUnknown: where that cannot be.
    """
    told = read_tags(request.query_params) if request.scope["query_string"] else UNTOLD
    site = told.site or held.keys.sites.get(client) or held.rulebook.default
    if site is None:
        return told
    held.rulebook.find(site)
    return replace(told, site=site)


@dataclass(frozen=True)
class Intake:
    """The photos of an admitted request."""

    admitted: Admitted
    uploads: list[Upload]
    read_s: float

    @property
    def model(self) -> LoadedModel:
        """What answers."""
        return self.admitted.model

    @contextmanager
    def submitted(self) -> Iterator[Futures]:
        """Hand them to the scheduler, and to the shadow; what is not answered is dropped."""
        limits = self.admitted.held.settings.photo_limits
        spec = self.model.manifest.preprocessing

        def load(upload: Upload) -> Pixels:
            return decode(upload.read(limits.max_bytes), spec, limits)

        with self.admitted.submitted(
            [partial(load, upload) for upload in self.uploads]
        ) as outcomes:
            shadow = self.admitted.held.shadow
            if shadow and shadow.wants(self.model):
                shadow.follow([upload.data for upload in self.uploads], outcomes)
            yield outcomes


@asynccontextmanager
async def intake(request: Request, model: str | None) -> AsyncIterator[Intake]:
    """Admit a request by its headers, then read its photos.

    Raises:
        SuperbinError: as `admitted`, and of `service.uploads`; before anything is decoded.
    """
    with admitted(request, model, announce) as let_in:
        started = time.perf_counter()
        uploads = await receive(request, let_in.announced, let_in.held.settings)
        read_s = time.perf_counter() - started
        let_in.settle(len(uploads), sum(upload.size for upload in uploads))
        yield Intake(let_in, uploads, read_s)


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


def identify_reviewer(request: Request) -> str:
    """The holder of a reviewer's key, or of an admin's.

    Raises:
        ReviewerOff, ReviewerOnly, KeyRefused: where none is set or none of them came.
    """
    return serving(request).keys.reviewer(key_of(request))


def identify_person(request: Request, named: str | None) -> str:
    """Who looks at photos, by the key and by the name that came with it.

    Raises:
        ReviewerOff, ReviewerOnly, KeyRefused: as `identify_reviewer`, before anything else.
        ReviewerNameless, ReviewerUnlisted: where that is nobody, or nobody whom the key is for.
    """
    keys = serving(request).keys
    return keys.person(identify_reviewer(request), named)


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
    watch = _Watch(request)
    timer = asyncio.get_running_loop().call_later(UNWATCHED_S, watch.begin)
    try:
        for outcome in outcomes:
            if not outcome.done():
                with suppress(SuperbinError):  # which it keeps
                    await outcome
    except asyncio.CancelledError:
        if watch.gone and (task := asyncio.current_task()):
            task.uncancel()
            raise ClientDisconnect from None
        raise
    finally:
        timer.cancel()
        await watch.end()
    return [result_of(outcome) for outcome in outcomes]


class _Watch:
    """Cancels the task that waits for answers when its client leaves."""

    def __init__(self, request: Request) -> None:
        self.gone = False
        self._request = request
        self._waiting = asyncio.current_task()
        self._watching: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Watch from now on."""
        self._watching = asyncio.create_task(self._watch())

    async def end(self) -> None:
        """Watch no more."""
        if self._watching:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    async def _watch(self) -> None:
        # The body was read, so nothing else can come.
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        if self._waiting:
            self.gone = True
            self._waiting.cancel()
