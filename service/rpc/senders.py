"""The address that a call counts for: its connection's, or what a trusted proxy says of it."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote

from uvicorn.middleware.proxy_headers import _TrustedHosts  # so that it is as over HTTP

FORWARDED_FOR = "x-forwarded-for"


class Senders:
    """Tells them by the proxies of `SUPERBIN_TRUSTED_PROXIES`."""

    def __init__(self, trusted_proxies: str | None) -> None:
        self._trusted = _TrustedHosts(trusted_proxies) if trusted_proxies else None

    def address(self, peer: str, metadata: Sequence[tuple[str, str | bytes]]) -> str:
        """Of a call's sender, as HTTP has it.

        Args:
            peer: in gRPC's words: `ipv6:%5B::1%5D:50051` is `::1`.
            metadata: which a proxy adds `x-forwarded-for` to.
        """
        host = unquote(peer).partition(":")[2].rpartition(":")[0]
        host = host.strip("[]").removeprefix("::ffff:")
        told = [v for name, v in metadata if name == FORWARDED_FOR and isinstance(v, str)]
        if self._trusted is None or not told or host not in self._trusted:
            return host
        return self._trusted.get_trusted_client_address(", ".join(told))[0] or host
