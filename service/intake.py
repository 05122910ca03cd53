"""From a request to photos that are admitted: what every route that takes photos does first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from starlette.requests import ClientDisconnect, Request

from service.admission import Place
from service.announced import Announced
from service.connection import on_leaving
from service.errors import SuperbinError
from service.photos import Outcome, result_of
from service.preprocess import Pixels, decode
from service.quota import Booking
from service.registry import LoadedModel
from service.serving import Serving, serving
from service.settings import Settings
from service.site_rules import Rules
from service.tags import UNTOLD, Tags, read_tags
from service.uploads import Upload, receive

Futures = list[asyncio.Future[Outcome]]


@dataclass(frozen=True)
class Admitted:
    """A request whose places are held, whichever way it came: who sent it, what answers it.

    Attributes:
        noted: what its line in the log will say.
    """

    held: Serving
    noted: MutableMapping[str, Any]
    client: str
    model: LoadedModel
    place: Place
    booking: Booking
    announced: Announced
    tags: Tags

    def settle(self, photos: int, nbytes: int) -> None:
        """Say what really came.

        Raises:
            RateLimited, QueueFull, TooSlow, Stopping: where it does not fit.
        """
        self.noted["photos"] = photos
        self.held.quota.settle(self.client, self.booking, photos)
        self.held.admission.settle(self.place, photos, nbytes)

    @contextmanager
    def submitted(
        self,
        loads: Sequence[Callable[[], Pixels]],
        photos: Sequence[bytes | Pixels | None],
        *,
        watched: bool = False,
    ) -> Iterator[Futures]:
        """Hand photos to the scheduler, and to the shadow; what is not answered is dropped.

        Args:
            photos: as they came, for the shadow; None for one that was too large to be kept.
            watched: whether drift is to see them, as far as it needs them.
        """
        drift = self.model.drift if watched else None
        with self.model.scheduler.submitted(
            loads,
            client=self.client,
            bulk=len(loads) > self.held.settings.interactive_photos,
            watched=partial(drift.watches, self.tags) if drift else None,
            timeout_s=self.announced.timeout_s,
        ) as outcomes:
            shadow = self.held.shadow
            if shadow and shadow.wants(self.model):
                shadow.follow(photos, outcomes)
            yield outcomes


@dataclass(frozen=True)
class AdmittedRequest(Admitted):
    """One that came over HTTP."""

    request: Request

    def grow(self, photos: int, nbytes: int) -> None:
        """So much came of a body of which the headers did not tell how much it has.

        Raises:
            RateLimited, QueueFull, Stopping: where it does not fit.
        """
        self.held.quota.grow(self.client, self.booking, photos)
        self.held.admission.grow(self.place, photos, nbytes)

    @property
    def rules(self) -> Rules | None:
        """Of the photos' site.

        Raises:
            SiteUnknown: where they are gone in the meantime.
        """
        return self.held.rulebook.find(self.tags.site)


@contextmanager
def admitted(
    request: Request, model: str | None, announce: Callable[[Request, Settings], Announced]
) -> Iterator[AdmittedRequest]:
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
            chosen.scheduler.backlog,
            client,
            announced.photos,
            announced.nbytes,
            announced.timeout_s,
        ) as place,
        held.quota.booked(client, announced.photos or 1) as booking,
    ):
        noted = request.scope["state"]
        yield AdmittedRequest(held, noted, client, chosen, place, booking, announced, tags, request)


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

    admitted: AdmittedRequest
    uploads: list[Upload]
    read_s: float

    @property
    def model(self) -> LoadedModel:
        """What answers."""
        return self.admitted.model

    def submitted(self, *, watched: bool = False) -> AbstractContextManager[Futures]:
        """Hand them over, as `Admitted.submitted`."""
        limits = self.admitted.held.settings.photo_limits
        spec = self.model.manifest.preprocessing

        def load(upload: Upload) -> Pixels:
            return decode(upload.read(limits.max_bytes), spec, limits)

        return self.admitted.submitted(
            [partial(load, upload) for upload in self.uploads],
            [upload.data for upload in self.uploads],
            watched=watched,
        )


async def take_in(let_in: AdmittedRequest) -> Intake:
    """Read an admitted request's photos, before anything is decoded.

    Raises:
        SuperbinError: of `service.uploads`, or as `Admitted.settle`.
    """
    started = time.perf_counter()
    uploads = await receive(let_in.request, let_in.announced, let_in.held.settings, let_in.grow)
    read_s = time.perf_counter() - started
    let_in.settle(len(uploads), sum(upload.size for upload in uploads))
    return Intake(let_in, uploads, read_s)


def identify(request: Request) -> str:
    """The holder of the request's key; where no keys are set, the address that it came from.

    Raises:
        KeyRefused: where keys are set and none of them came.
    """
    holder = serving(request).keys.client(key_of(request.headers))
    if holder:
        return _noted(request, holder)
    return request.client.host if request.client else ""


def identify_admin(request: Request) -> str:
    """The holder of an admin key.

    Raises:
        AdminOff, AdminOnly, KeyRefused: where none is set or none of them came.
    """
    return _noted(request, serving(request).keys.admin(key_of(request.headers)))


def identify_reviewer(request: Request) -> str:
    """The holder of a reviewer's key, or of an admin's.

    Raises:
        ReviewerOff, ReviewerOnly, KeyRefused: where none is set or none of them came.
    """
    return _noted(request, serving(request).keys.reviewer(key_of(request.headers)))


def identify_person(request: Request, named: str | None) -> str:
    """Who looks at photos, by the key and by the name that came with it.

    Raises:
        ReviewerOff, ReviewerOnly, KeyRefused: as `identify_reviewer`, before anything else.
        ReviewerNameless, ReviewerUnlisted: where that is nobody, or nobody whom the key is for.
    """
    keys = serving(request).keys
    return keys.person(_noted(request, keys.reviewer(key_of(request.headers))), named)


def _noted(request: Request, holder: str) -> str:
    """The holder of a key, whom the request's line in the log will name."""
    request.scope["state"]["client"] = holder
    return holder


def key_of(headers: Mapping[str, str]) -> str | None:
    """From `Authorization: Bearer` or `X-API-Key`."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key")


async def results_unless_gone(request: Request, outcomes: Futures) -> list[Outcome | SuperbinError]:
    """What came of a request's photos, in order.

    Raises:
        ClientDisconnect: where the client left first.
    """
    waiting = asyncio.current_task()
    gone = False

    def leave() -> None:
        nonlocal gone
        if waiting:
            gone = waiting.cancel()

    with on_leaving(request.scope, leave):
        try:
            for outcome in outcomes:
                if not outcome.done():
                    with suppress(SuperbinError):  # which it keeps
                        await outcome
        except asyncio.CancelledError:
            if gone and waiting and not waiting.uncancel():
                raise ClientDisconnect from None
            raise
    return [result_of(outcome) for outcome in outcomes]
