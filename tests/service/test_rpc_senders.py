"""Whom a call over gRPC counts for."""

from __future__ import annotations

import pytest

from service.rpc.senders import Senders

FORWARDED = "x-forwarded-for"


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:192.0.2.1:50051", "192.0.2.1"),
        ("ipv6:%5B::1%5D:50051", "::1"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:50051", "192.0.2.1"),
    ],
)
@pytest.mark.parametrize("proxies", [None, "10.0.0.0/8"])
def test_who_is_no_trusted_proxy_is_taken_by_its_own_address(
    proxies: str | None, peer: str, host: str
) -> None:
    assert Senders(proxies).address(peer, [(FORWARDED, "203.0.113.7")]) == host


@pytest.mark.parametrize(
    ("told", "host"),
    [
        (["203.0.113.7"], "203.0.113.7"),
        (["198.51.100.9, 203.0.113.7"], "203.0.113.7"),  # who wrote the first is not trusted
        (["203.0.113.7, 10.0.0.2"], "203.0.113.7"),
        (["203.0.113.7", "10.0.0.2"], "203.0.113.7"),  # two lines are one list
        (["[2001:db8::7]:4711"], "2001:db8::7"),
        ([""], "10.0.0.1"),
        ([], "10.0.0.1"),
    ],
)
def test_a_trusted_proxy_says_who_asks(told: list[str], host: str) -> None:
    metadata = [("x-request-id", "seven"), *((FORWARDED, one) for one in told)]
    assert Senders("10.0.0.0/8, ::1").address("ipv4:10.0.0.1:50051", metadata) == host
