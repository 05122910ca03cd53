"""The calls of the Open Inference Protocol v2 over gRPC; HTTP's are in `routes`.

Whether the service stops, the key, the rate and room in the queue are looked at before a call's
message is read: gRPC leaves it with the client until somebody asks for it. Which model is meant and
how many photos there are stands in the message alone, which gRPC reads whole, up to
SUPERBIN_MAX_REQUEST_BYTES, without telling how large it will be or how it flows: so it holds a
photo's place while it is read, its bytes count from when they are there, and of one client only a
few are read at a time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc

from service import __version__
from service.announced import Announced
from service.inference import INLINE_BYTES, inferring
from service.intake import Admitted, key_of
from service.photos import DeadlineExceeded, results_of
from service.registry import ModelUnknown
from service.rpc.call import Call, NoSuchMethod, answered, parsed
from service.rpc.messages import SERVICE, message_class
from service.rpc.receiving import Receiving
from service.rpc.senders import Senders
from service.rpc.tensors import read_inference, write_answer
from service.serving import Serving
from service.tags import UNTOLD
from service.tensors import EXTENSIONS, metadata
from service.tracing import call_span
from service.uploads import RequestSlow

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


class Calls:
    """A generic handler of gRPC's: takes each call as bytes and answers with bytes."""

    def __init__(self, held: Serving, provider: TracerProvider | None) -> None:
        self._held = held
        self._provider = provider
        self._senders = Senders(held.settings.trusted_proxies)
        limits = held.settings
        room = int(limits.max_queue_bytes * limits.client_share)
        at_a_time = max(1, room // limits.max_request_bytes)
        self._receiving = Receiving(at_a_time, limits.max_queue // 2)
        self._calls: dict[str, Callable[[Call], Awaitable[bytes]]] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._model_infer,
        }

    def service(self, details: Any) -> grpc.RpcMethodHandler:
        """What answers a method, before anything but the metadata is read.

        As if the client sent a stream: on the wire that is the same, and its message is read when
        it is asked for.
        """
        return grpc.stream_unary_rpc_method_handler(partial(self._serve, details.method))

    async def _serve(self, method: str, messages: object, context: Any) -> bytes:
        held = self._held
        call = Call(context, held.settings, self._senders)
        service, _, name = method.removeprefix("/").rpartition("/")
        answer = self._calls.get(name) if service == SERVICE else None
        with call_span(self._provider, method, call.headers):
            return await answered(
                call,
                held.metrics,
                method if answer else "unmatched",
                answer or partial(self._unknown, method),
            )

    async def _unknown(self, method: str, call: Call) -> bytes:
        known = ", ".join(self._calls)
        raise NoSuchMethod(f"expected one of {known} of {SERVICE}, got {method[:128]}")

    async def _server_live(self, call: Call) -> bytes:
        return _made("ServerLiveResponse", live=True)

    async def _server_ready(self, call: Call) -> bytes:
        return _made("ServerReadyResponse", ready=self._held.ready)

    async def _model_ready(self, call: Call) -> bytes:
        """Not ready is also what is not there: that is how Triton's client asks for it."""
        request = await self._question("ModelReadyRequest", call, call.host)
        try:
            self._held.registry.find(_reference(request.name, request.version))
        except ModelUnknown:
            return _made("ModelReadyResponse", ready=False)
        return _made("ModelReadyResponse", ready=self._held.ready)

    async def _server_metadata(self, call: Call) -> bytes:
        return _made(
            "ServerMetadataResponse", name="superbin", version=__version__, extensions=EXTENSIONS
        )

    async def _model_metadata(self, call: Call) -> bytes:
        client = self._identify(call)
        request = await self._question("ModelMetadataRequest", call, client)
        model = self._held.registry.find(_reference(request.name, request.version))
        return _made("ModelMetadataResponse", **metadata(model.manifest))

    async def _model_infer(self, call: Call) -> bytes:
        held = self._held
        client = self._identify(call)
        held.quota.check(client)
        any_backlog = held.registry.default.scheduler.backlog
        with held.admission.admit(any_backlog, client, 1, 0, math.inf):
            pass  # what would be refused is refused before it waits for its turn
        async with self._turn(client, held.settings.timeout_s):
            with held.admission.admit(any_backlog, client, 1, 0, math.inf) as place:
                body = await call.read()
                nbytes = len(body)
                held.admission.settle(place, 1, nbytes)  # until the message tells more
                request = await parsed("ModelInferRequest", body, held.settings)
                del body
        announced = Announced(1, nbytes, call.timeout_s)
        if announced.timeout_s <= 0:
            raise DeadlineExceeded("expected a deadline that leaves time, got one that has passed")
        named = held.registry.find(_reference(request.model_name, request.model_version))
        with (
            named.lease() as model,
            held.admission.admit(
                model.scheduler.backlog, client, 1, nbytes, announced.timeout_s
            ) as place,
            held.quota.booked(client, 1) as booking,
        ):
            let_in = Admitted(held, call.noted, client, model, place, booking, announced, UNTOLD)
            read = partial(read_inference, request, model.manifest)
            asked = await asyncio.to_thread(read) if nbytes > INLINE_BYTES else read()
            del request, read  # the photos hold what they need of it
            with inferring(let_in, asked, nbytes) as outcomes:
                found = await results_of(outcomes)
        answer: bytes = write_answer(model.manifest, asked, found).SerializeToString()
        return answer

    async def _question(self, name: str, call: Call, client: str) -> Any:
        """A message that should be short: it holds no place in the queue."""
        settings = self._held.settings
        async with self._turn(client, settings.header_timeout_s):
            return await parsed(name, await call.read(), settings)

    @asynccontextmanager
    async def _turn(self, client: str, limit_s: float) -> AsyncIterator[None]:
        """Receive a message, within so long: how it flows cannot be seen.

        Raises:
            RequestSlow: where it is not whole in time.
            QueueFull: where too many of this client wait for that.
        """
        try:
            async with asyncio.timeout(limit_s), self._receiving.turn(client):
                yield
        except TimeoutError as error:
            raise RequestSlow(f"expected the message within {limit_s:g} s, got less") from error

    def _identify(self, call: Call) -> str:
        holder = self._held.keys.client(key_of(call.headers))
        if holder:
            call.noted["client"] = holder
        return holder or call.host


def _made(name: str, /, **fields: Any) -> bytes:
    answer: bytes = message_class(name)(**fields).SerializeToString()
    return answer


def _reference(name: str, version: str) -> str:
    return f"{name}/{version}" if version else name
