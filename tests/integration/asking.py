"""What the tests that ask over a socket share."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import httpx

JPEG = {"content-type": "image/jpeg"}
PHOTO = (Path(__file__).parent.parent / "photos" / "glass.jpg").read_bytes()


def problem(response: httpx.Response, status: int, reason: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert found["status"] == status
    assert found["reason"] == reason
    assert found["type"].endswith(reason)
    assert found["request_id"] == response.headers["x-request-id"]
    return found


def files(*photos: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("file", (f"{i}.jpg", data)) for i, data in enumerate(photos)]


def head(framing: str) -> bytes:
    head = "POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x"
    return f"{head}\r\n{framing}\r\n\r\n".encode()


def connect(client: httpx.Client) -> socket.socket:
    url = client.base_url
    return socket.create_connection((url.host, url.port or 80), timeout=20)
