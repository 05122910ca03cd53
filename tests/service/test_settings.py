"""Settings are right or the service does not start."""

from __future__ import annotations

import os
import re

import pytest

from service.settings import PREFIX, Settings, SettingsError, load_settings


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)


def test_defaults_are_complete_and_every_field_is_described() -> None:
    assert load_settings().model == "refuse"
    assert all(field.description for field in Settings.model_fields.values())


def test_variables_are_read_and_arguments_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERBIN_PORT", "81")
    monkeypatch.setenv("SUPERBIN_HOST", "0.0.0.0")
    found = load_settings(port=82, host=None)
    assert (found.host, found.port) == ("0.0.0.0", 82)


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERBIN_VARIANT", "")
    assert load_settings().variant is None


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("https://App.Example:443", ("https://app.example",)),
        (
            "http://a.example:80 , https://[::1]:443,http://b.example",
            ("http://a.example", "https://[::1]", "http://b.example"),
        ),
        (
            "https://a.example:80, http://a.example:443",
            ("https://a.example:80", "http://a.example:443"),
        ),
        ("https://a.example:8443,http://[fe::80]", ("https://a.example:8443", "http://[fe::80]")),
        ("*", ("*",)),
    ],
)
def test_origins_are_taken_as_browsers_send_them(given: str, sent: tuple[str, ...]) -> None:
    assert load_settings(cors_origins=given).origins == sent


def test_a_misspelt_variable_is_refused_with_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERBIN_MAX_BACH", "4")
    with pytest.raises(SettingsError, match=r"MAX_BACH: did you mean SUPERBIN_MAX_BATCH\?"):
        load_settings()


def test_an_unknown_variable_is_refused_with_all_that_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SUPERBIN_ZZZZZ", "4")
    with pytest.raises(SettingsError, match=r"known are SUPERBIN_BODY_LONGEST_S, "):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "eighty"),
        ("PORT", "70000"),
        ("DEVICE", "gpu"),
        ("WORKERS", "0"),
        ("CORS_ORIGINS", "app.example"),
        ("TRUSTED_PROXIES", "10.0.0.1, proxy"),
        ("TRUSTED_PROXIES", "10.0.0.1, *"),
        ("TRUSTED_PROXIES", "10.0.0.0/40"),
        ("MAX_BATCH", "0"),
        ("LOG_LEVEL", "loud"),
        ("MAX_PHOTO_PIXELS", "1000000000"),
        ("DRAIN_DELAY_S", "inf"),
        ("WATCH_S", "nan"),
        ("RATE_PHOTOS_S", "inf"),
        ("RATE_PHOTOS_S", "1e300"),
        ("FEEDBACK_RATE_S", "inf"),
        ("KEEP_ALIVE_S", "10000000"),
        ("MAX_CONNECTIONS", "10000000000"),
        ("HEADER_TIMEOUT_S", "1e300"),
        ("MODEL", "refuse,mine, refuse"),
    ],
)
def test_a_bad_value_is_refused_by_name_with_what_came(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"SUPERBIN_{name}", value)
    with pytest.raises(
        SettingsError, match=f"SUPERBIN_{name}: .*got '{re.escape(value)}'"
    ) as found:
        load_settings()
    assert len(str(found.value).splitlines()) == 1  # and nothing of what follows from it
    assert "pattern" not in str(found.value)


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.settings.available_cores", lambda: 8)
    assert load_settings().threads == 8
    assert load_settings(workers=3).threads == 2
    assert load_settings(workers=20).threads == 1
    assert load_settings(workers=3, threads=5).threads == 5


def test_a_queue_that_no_whole_request_fits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERBIN_MAX_QUEUE", "8")
    with pytest.raises(SettingsError, match="SUPERBIN_MAX_PHOTOS = 32, got 8"):
        load_settings()


def test_kubernetes_service_links_are_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERBIN_PORT", "tcp://10.0.0.1:8000")
    with pytest.raises(SettingsError, match="enableServiceLinks: false"):
        load_settings()
    monkeypatch.setenv("SUPERBIN_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(SettingsError, match="enableServiceLinks: false"):
        load_settings()


def test_more_sessions_on_the_cpu_than_threads_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"THREADS = 2 threads .* got 99 in cpu:99"):
        load_settings(device="cpu:99", threads=2)
    with pytest.raises(SettingsError, match="got 3 in cuda,cpu,cpu:2"):
        load_settings(device="cuda,cpu,cpu:2", threads=2)
    assert load_settings(device="cuda,cpu:2", threads=2).device == "cuda,cpu:2"
