"""Whether there is gRPC, where it listens, and how it starts and stops."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from service.extras import how_to_install
from service.serving import Serving
from service.settings import Settings, SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

STREAMS = 100  # of a connection at least, as HTTP/2 wants it; more wait with the client
IDENTITY_ALONE = 1  # a bit for each coding: what is packed has no limit once it is unpacked
MOST = 2**31 - 1  # that one of gRPC's numbers can be; 2 GiB are also the most of a message


def check_packages(settings: Settings) -> None:
    """See that what is asked for can be had, before a model is loaded.

    Raises:
        SettingsError: where packages are missing.
    """
    missing = [name for name in ("grpc", "google.protobuf") if not _is_there(name)]
    if settings.grpc_port is not None and missing:
        raise SettingsError(
            f"SUPERBIN_GRPC_PORT needs {' and '.join(missing)}, which is not installed: "
            f"{how_to_install('grpc')}"
        )


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # of a package around it
        return False


@asynccontextmanager
async def grpc_served(held: Serving, provider: TracerProvider | None) -> AsyncIterator[Any | None]:
    """Answer calls; at the end finish those that were accepted, within the grace period.

    Yields:
        The `grpc.aio.Server`; None where the settings want none.

    Raises:
        SettingsError: where its port cannot be listened on.
    """
    settings = held.settings
    if settings.grpc_port is None:
        yield None
        return
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # or each bad call is told on stderr
    import grpc

    from service.rpc.calls import Calls

    server = grpc.aio.server(
        options=options(settings), maximum_concurrent_rpcs=settings.max_connections
    )
    server.add_generic_rpc_handlers((Calls(held, provider),))
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        server.add_insecure_port(f"{host}:{settings.grpc_port}")
    except RuntimeError as error:
        raise SettingsError(
            f"SUPERBIN_GRPC_PORT: cannot listen on {settings.host}, port {settings.grpc_port}: "
            f"{error}"
        ) from error
    await server.start()
    try:
        yield server
    finally:
        await server.stop(settings.grace_period_s)


def options(settings: Settings) -> list[tuple[str, int]]:
    """The limits of HTTP, in gRPC's words."""
    limits = [
        ("grpc.so_reuseport", 1),  # of several workers each listens; `service.server` holds it
        ("grpc.max_receive_message_length", settings.max_request_bytes),
        ("grpc.max_concurrent_streams", max(STREAMS, settings.max_queue)),
        ("grpc.compression_enabled_algorithms_bitset", IDENTITY_ALONE),
        ("grpc.max_metadata_size", settings.max_header_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_header_bytes),
        ("grpc.server_handshake_timeout_ms", round(1000 * settings.header_timeout_s)),
        ("grpc.max_connection_idle_ms", 1000 * settings.keep_alive_s),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
    ]
    return [(name, min(limit, MOST)) for name, limit in limits]
