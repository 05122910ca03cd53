"""What one process takes on: batches, the queue, connections, and the size of what comes."""

from __future__ import annotations

from ipaddress import ip_network

from pydantic import BaseModel, Field, field_validator

PILLOW_MAX_PIXELS = 178_956_970  # beyond it Pillow itself refuses a header


class LimitSettings(BaseModel):
    """Limits, with defaults that are safe."""

    max_batch: int = Field(
        16, ge=1, le=4096, description="Photos run together at most; fewer where more gain nothing."
    )
    max_queue: int = Field(
        256,
        ge=1,
        description="Photos admitted and not yet answered; a request beyond that gets 503.",
    )
    max_queue_bytes: int = Field(
        256_000_000,
        ge=1,
        description="Bytes of bodies admitted and not yet answered; beyond that there is a 503.",
    )
    client_share: float = Field(
        0.8,
        gt=0.0,
        le=1.0,
        description="Share of the queue's photos and bytes that one client (a key, or an address) "
        "may hold where no other is in it, and less beside others; 1 is no limit.",
    )
    max_delay_s: float = Field(
        0.0,
        ge=0.0,
        le=10.0,
        description="Seconds that a photo may wait for a fuller batch while the model is idle.",
    )
    interactive_photos: int = Field(
        4, ge=0, description="Requests of more photos than this are bulk and let others go first."
    )
    timeout_s: float = Field(
        30.0,
        gt=0.0,
        le=3600.0,
        description="Seconds from the end of the body to the answer; X-Request-Timeout may ask for "
        "less.",
    )
    header_timeout_s: float = Field(
        10.0,
        gt=0.0,
        le=3600.0,
        description="Seconds that a connection may take to send a request's headers.",
    )
    keep_alive_s: int = Field(
        75,
        ge=1,
        le=86_400,
        description="Seconds that a connection is kept for the next request; let it be longer than "
        "a load balancer keeps its own.",
    )
    max_header_bytes: int = Field(
        65_536, ge=1024, le=16_777_216, description="Bytes of a request's headers at most."
    )
    max_connections: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="Connections at once; one more closes the one that has idled longest.",
    )
    body_timeout_s: float = Field(
        10.0,
        gt=0.0,
        le=3600.0,
        description="Seconds that a body may take, and more as long as it flows.",
    )
    body_min_rate: int = Field(
        4096, ge=1, description="Bytes a second that earn a body another second each."
    )
    body_longest_s: float = Field(
        600.0,
        gt=0.0,
        le=86_400.0,
        description="Seconds that a body may take at its rate, beyond SUPERBIN_BODY_TIMEOUT_S: a "
        "large one has to flow faster than SUPERBIN_BODY_MIN_RATE.",
    )
    write_timeout_s: float = Field(
        30.0,
        gt=0.0,
        le=3600.0,
        description="Seconds that an answer may wait for a client that stops reading; 48 KiB read "
        "in them earn as many again.",
    )
    stuck_s: float = Field(
        60.0,
        gt=0.0,
        le=86_400.0,
        description="Seconds that a thread may work at one turn, of a few photos; longer, as where "
        "a GPU hangs, and `/readyz` says 503.",
    )
    max_photos: int = Field(32, ge=1, description="Photos in one request at most.")
    max_photo_bytes: int = Field(20_000_000, ge=1, description="Bytes of one photo at most.")
    max_photo_pixels: int = Field(
        50_000_000,
        ge=1,
        le=PILLOW_MAX_PIXELS,
        description="Pixels of one photo at most, read from its header before it is decoded.",
    )
    max_decode_bytes: int = Field(
        600_000_000,
        ge=1,
        description="Bytes that photos which are decoded at once may take together, in one "
        "process; beyond it large ones take turns, and one that needs more by itself is decoded "
        "alone.",
    )
    max_request_bytes: int = Field(64_000_000, ge=1, description="Bytes of one request at most.")
    rate_photos_s: float = Field(
        0.0,
        ge=0.0,
        le=1e6,
        description="Photos a second that one key, or one address, may bring; 0 is no limit.",
    )
    trusted_proxies: str | None = Field(
        None,
        description="Addresses or networks of proxies, by commas, whose X-Forwarded-For says who "
        "asks, such as 10.0.0.0/8; * for any; none without.",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _known_proxies(cls, proxies: str | None) -> str | None:
        if proxies is None or proxies.strip() == "*":  # which stands for any where it stands alone
            return proxies and proxies.strip()
        for one in proxies.split(","):
            try:
                ip_network(one.strip())
            except ValueError as error:
                raise ValueError(
                    f"expected addresses or networks such as 10.0.0.0/8, by commas, or *, got {one}"
                ) from error
        return proxies
