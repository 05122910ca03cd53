"""API keys and the rate that each of them may have."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from service import cli
from service.keys import AdminOnly, KeyRefused, Keys, digest_of, new_key, parse_keys, text_of
from service.settings import SettingsError
from tests.integration.server import environment, running, spawn

PHOTO = (Path(__file__).parent.parent / "photos" / "glass.jpg").read_bytes()


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "keys.toml"
    file.write_text(
        f'[clients]\nline-4 = "{digest_of("four")}"\nline-5 = "{digest_of("five")}"\n'
        f'[admins]\nops = "{digest_of("ops")}"\n'
    )
    return file


@pytest.fixture(scope="module")
def client(models_dir: Path, keys_file: Path) -> Iterator[httpx.Client]:
    with (
        running(models_dir, keys_file=keys_file) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        yield client


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer four"},
        {"authorization": "bearer  five"},
        {"x-api-key": "four"},
        {"x-api-key": "ops"},
    ],
)
def test_a_key_opens_what_takes_photos(client: httpx.Client, headers: dict[str, str]) -> None:
    files = {"file": ("x.jpg", PHOTO)}
    assert client.post("/v1/classify", files=files, headers=headers).status_code == 200
    assert client.post("/v1/embed", files=files, headers=headers).status_code == 200
    assert client.get("/v1/models", headers=headers).status_code == 200
    assert client.get("/v2/models/tiny", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{}, {"x-api-key": ""}, {"x-api-key": "six"}, {"authorization": "Basic four"}],
)
def test_without_one_they_stay_shut_before_the_body_is_read(
    client: httpx.Client, headers: dict[str, str]
) -> None:
    for method, path in (
        ("POST", "/v1/classify"),
        ("POST", "/v1/embed"),
        ("POST", "/v2/models/tiny/infer"),
        ("GET", "/v1/models"),
        ("GET", "/v2/models/tiny"),
    ):
        response = client.request(method, path, headers=headers)
        assert response.status_code == 401, path
        assert response.json()["reason"] == "key_refused"
        assert response.headers["www-authenticate"] == "Bearer"


def test_health_metrics_and_the_page_need_none(client: httpx.Client) -> None:
    for path in (
        "/livez",
        "/readyz",
        "/metrics",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/tiny/ready",
        "/",
        "/docs",
        "/openapi.json",
    ):
        assert client.get(path).status_code == 200, path


def test_a_clients_key_is_no_admins(client: httpx.Client) -> None:
    refused = client.post("/v1/models/tiny/load", headers={"x-api-key": "four"})
    assert refused.status_code == 403
    assert refused.json()["reason"] == "admin_only"
    assert "that of the client line-4" in refused.json()["detail"]
    unknown = client.post("/v1/models/tiny/load", headers={"x-api-key": "six"})
    assert unknown.status_code == 401


def test_one_name_may_hold_a_key_of_each_kind() -> None:
    keys = Keys(clients={"ops": digest_of("a")}, admins={"ops": digest_of("b")})
    assert keys.client("a") == keys.client("b") == keys.admin("b") == "ops"
    with pytest.raises(AdminOnly):
        keys.admin("a")


def test_a_reviewers_key_is_told_that_it_is_no_clients() -> None:
    keys = Keys(clients={"line": digest_of("a")}, reviewers={"room": digest_of("b")})
    with pytest.raises(KeyRefused, match="got that of the reviewer room"):
        keys.client("b")
    with pytest.raises(KeyRefused, match="one that is not known"):
        keys.client("c")


def test_a_key_has_its_own_rate_and_is_told_when_to_come_back(
    models_dir: Path, keys_file: Path
) -> None:
    settings = {"keys_file": keys_file, "rate_photos_s": 0.01, "max_photos": 3}
    with (
        running(models_dir, **settings) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):

        def ask(key: str, photos: int) -> httpx.Response:
            files = [("file", ("x.jpg", PHOTO))] * photos
            return client.post("/v1/classify", files=files, headers={"x-api-key": key})

        assert [ask("four", n).status_code for n in (2, 2, 1)] == [200, 200, 429]
        limited = ask("four", 1)
        assert limited.json()["reason"] == "rate_limited"
        assert 100 <= int(limited.headers["retry-after"]) <= 200
        assert ask("five", 1).status_code == 200


def test_the_log_says_whose_request_it_was_and_why_it_was_refused(
    models_dir: Path, keys_file: Path
) -> None:
    settings = {"keys_file": keys_file, "rate_photos_s": 0.01, "max_photos": 1}
    with running(models_dir, **settings) as server, httpx.Client(base_url=server.url) as client:
        for way in (
            {"method": "POST", "url": "/v1/classify", "files": {"file": PHOTO}},
            {"method": "POST", "url": "/v1/models/tiny/load"},
            {"method": "GET", "url": "/v1/sites?colour=red"},
            {"method": "GET", "url": "/v1/nothing"},
        ):
            for key in ("four", "four", "ops", "six"):
                client.request(**way, headers={"x-api-key": key, "x-request-id": "own"}, timeout=30)
        asked = [one for one in server.log_lines() if one.get("request_id") == "own"]
    told = [(one["code"], one.get("client"), one.get("reason")) for one in asked]
    limited, unknown = (429, "line-4", "rate_limited"), (401, None, "key_refused")
    assert told[:4] == [(200, "line-4", None), limited, (200, "ops", None), unknown]
    assert told[4:8] == [(403, None, "admin_only")] * 2 + [(200, "ops", None), unknown]
    assert told[8:12] == [(422, None, "unknown_parameter")] * 4
    assert told[12:] == [(404, None, "not_found")] * 4
    assert not any(key in line for line in server.stdout for key in ('"four"', '"six"'))


@pytest.mark.parametrize(
    ("settings", "codes"),
    [
        ({}, [200, 429, 429]),
        ({"trusted_proxies": "10.0.0.0/8"}, [200, 429, 429]),
        ({"trusted_proxies": "10.0.0.0/8, 127.0.0.1"}, [200, 200, 429]),
    ],
)
def test_only_a_trusted_proxy_says_who_asks(
    models_dir: Path, settings: dict[str, Any], codes: list[int]
) -> None:
    with running(models_dir, rate_photos_s=0.01, max_photos=1, **settings) as server:
        answers = [
            httpx.post(
                f"{server.url}/v1/classify",
                files={"file": PHOTO},
                headers={"x-forwarded-for": address},
                timeout=30,
            )
            for address in ("192.0.2.1", "192.0.2.2", "192.0.2.2")
        ]
    assert [answer.status_code for answer in answers] == codes


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[clients\n", "is not TOML"),
        ("[client]\n", "client: expected no such field"),
        ('[clients]\na = "short"\n', "clients.a"),
        ('[clients]\n"a b" = "' + "0" * 64 + '"\n', "clients.a b"),
        (f'[clients]\na = "{"0" * 64}"\n"a" = "{"1" * 64}"\n', 'has "a" twice'),
        (
            'people."room" = ["anna"]\n',
            "expected holders of a reviewer's or an admin's key, got 'room', who has no key",
        ),
        (
            f'clients.kiosk = "{digest_of("a")}"\npeople.kiosk = ["anna"]\n',
            "people: expected holders of a reviewer's or an admin's key, got the client 'kiosk'",
        ),
        ('people."room" = "anna"\n', 'people.room: expected a list, got "anna"'),
        (f'reviewers.a = "{"0" * 64}"\npeople.a = ["x/y"]\n', "people.a.0"),
        (None, "cannot read"),
    ],
)
def test_a_file_that_does_not_fit_stops_the_start(
    models_dir: Path, tmp_path: Path, text: str | None, told: str
) -> None:
    file = tmp_path / "keys.toml"
    if text is not None:
        file.write_text(text)
    server = spawn(environment(models_dir, keys_file=file))
    assert server.ended() == 1
    assert told in " ".join(server.stderr)
    assert "Traceback" not in " ".join(server.stderr)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(f'[clients]\nkiosk = "{digest_of("sesame")}"\n', encoding="utf-8-sig")
    assert parse_keys(text_of(file), file).client("sesame") == "kiosk"


def test_a_name_that_stands_there_twice_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(f'clients."a" = "{"0" * 64}"\n# more\nclients."a" = "{"1" * 64}"\n')
    with pytest.raises(SettingsError) as found:
        parse_keys(text_of(file), file)
    told = f'SUPERBIN_KEYS_FILE: {file} has clients."a" twice, the second time in line 3: remove'
    assert str(found.value).startswith(told)


@pytest.mark.parametrize(
    ("option", "section"), [([], "clients"), (["--admin"], "admins"), (["--reviewer"], "reviewers")]
)
def test_a_key_is_made_with_the_line_for_the_file(option: list[str], section: str) -> None:
    made = CliRunner().invoke(cli.app, ["key", "line-4", *option])
    key = made.stderr.split()[-1]
    assert tomllib.loads(made.stdout) == {section: {"line-4": digest_of(key)}}
    assert len(key) >= 43
    again = CliRunner().invoke(cli.app, ["key", "line-5", *option])
    both = tomllib.loads(made.stdout + again.stdout)[section]
    assert set(both) == {"line-4", "line-5"}
    assert new_key() != new_key()


ORIGIN = {"origin": "https://app.example"}
ALLOWED = "access-control-allow-origin"


def test_pages_of_other_origins_may_ask_where_they_are_named(
    models_dir: Path, keys_file: Path
) -> None:
    origins = "https://App.Example:443, http://localhost:3000"
    with (
        running(models_dir, cors_origins=origins, keys_file=keys_file) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        asked = {
            "access-control-request-method": "POST",
            "access-control-request-headers": "x-api-key,content-type",
        }
        preflight = client.options("/v1/classify", headers=ORIGIN | asked)
        assert preflight.status_code == 200
        assert preflight.headers[ALLOWED] == ORIGIN["origin"]
        assert "X-API-Key" in preflight.headers["access-control-allow-headers"]
        for method, path, header in (
            ("PUT", "/v1/review/photos/1/verdict", "x-reviewer"),
            ("POST", "/v2/models/tiny/infer", "inference-header-content-length"),
            ("POST", "/v1/classify", "traceparent,tracestate"),
            ("HEAD", "/v1/models", "authorization"),
        ):
            asks = dict(zip(asked, (method, header), strict=True))
            assert client.options(path, headers=ORIGIN | asks).status_code == 200, header
        key = {"x-api-key": "four", "content-type": "image/jpeg"}
        answer = client.post("/v1/classify", content=PHOTO, headers=ORIGIN | key)
        assert answer.status_code == 200
        assert answer.headers[ALLOWED] == ORIGIN["origin"]
        exposed = answer.headers["access-control-expose-headers"]
        assert "Inference-Header-Content-Length" in exposed
        refused = client.post("/v1/classify", content=PHOTO, headers=ORIGIN)
        assert refused.status_code == 401
        assert refused.headers[ALLOWED] == ORIGIN["origin"]  # or the page could not read why
        assert client.get("/v1/models", headers=ORIGIN | key).headers[ALLOWED] == ORIGIN["origin"]
        stranger = {"origin": "https://elsewhere.example"}
        assert client.options("/v1/classify", headers=stranger | asked).status_code == 400
        assert ALLOWED not in client.post("/v1/classify", headers=stranger).headers


def test_without_a_setting_no_origin_is_told_that_it_may_ask(client: httpx.Client) -> None:
    assert ALLOWED not in client.get("/livez", headers=ORIGIN).headers
    assert ALLOWED not in client.post("/v1/classify", headers=ORIGIN).headers
    assert client.options("/v1/classify", headers=ORIGIN).status_code == 405


@pytest.mark.parametrize(
    "origins", ["app.example", "https://app.example/path", "https://*.example"]
)
def test_an_origin_that_is_none_is_refused_at_the_start(models_dir: Path, origins: str) -> None:
    server = spawn(environment(models_dir, cors_origins=origins))
    assert server.ended() == 1
    assert "SUPERBIN_CORS_ORIGINS" in server.stderr[0]
