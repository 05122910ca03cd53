"""The file of keys while the service runs: what is in force, and what new workers begin with."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service import keyring as module
from service.bundle import Manifest, read_manifest
from service.keyring import Keyring
from service.keys import KeyRefused, digest_of
from service.metrics import Metrics
from service.rulebook import Rulebook
from service.settings import SettingsError
from tests.tiny_bundle import write_bundle
from tests.tiny_site import TINY, write_site

STAYS = "keys refused, and those of before stay in force"


def write_keys(file: Path, *clients: str, more: str = "") -> Path:
    """Clients by name, each with its name as the key; whole or not at all."""
    part = file.with_suffix(".part")
    lines = [f'clients."{name}" = "{digest_of(name)}"\n' for name in clients]
    part.write_text("".join(lines) + more, encoding="utf-8")
    return part.replace(file)


def opened(
    file: Path | None,
    *,
    shared: Path | None = None,
    sites: Path | None = None,
    model: Callable[[], Manifest | None] = lambda: None,
) -> Keyring:
    metrics = Metrics()
    metrics.folder = shared
    folder = sites or (file.parent if file else Path())
    return Keyring(file, Rulebook(folder, None, model, metrics), metrics)


def known(ring: Keyring, key: str) -> bool:
    try:
        return ring.keys.client(key) is not None
    except KeyRefused:
        return False


def events(ring: Keyring, looks: int = 3) -> list[str]:
    with capture_logs() as lines:
        for _ in range(looks):
            ring.look()
    return [line["event"] for line in lines]


def test_a_key_that_is_gone_from_the_file_opens_nothing_and_a_new_one_does(tmp_path: Path) -> None:
    file = write_keys(tmp_path / "keys.toml", "a", "leaked")
    ring = opened(file)
    assert events(ring) == []
    write_keys(file, "a", "b")
    assert events(ring) == ["keys loaded"]
    assert [known(ring, key) for key in ("a", "leaked", "b")] == [True, False, True]


def test_another_key_of_the_same_name_is_seen_though_size_and_time_are_the_same(
    tmp_path: Path,
) -> None:
    file = write_keys(tmp_path / "keys.toml", "a")
    before = file.stat()
    ring = opened(file)
    file.write_text(file.read_text().replace(digest_of("a"), digest_of("other")))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    ring.look()
    assert [known(ring, key) for key in ("a", "other")] == [False, True]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("clients.", "is not TOML"),
        ('clients.a = "short"', "clients.a"),
        ("", "expected a client's key, as before, since without any anybody may ask, got none"),
        (f'admins.ops = "{digest_of("ops")}"', "expected a client's key, as before"),
    ],
)
def test_a_faulty_file_is_told_once_and_the_keys_of_before_stay(
    tmp_path: Path, text: str, told: str
) -> None:
    file = write_keys(tmp_path / "keys.toml", "a")
    ring = opened(file)
    file.write_text(text)
    with capture_logs() as lines:
        for _ in range(3):
            ring.look()
    (line,) = lines
    assert (line["event"], line["log_level"]) == (STAYS, "error")
    assert told in line["error"]
    assert known(ring, "a")
    write_keys(file, "a")
    assert events(ring) == ["keys loaded"]


def test_keys_stay_where_their_file_is_gone_which_is_told_once(tmp_path: Path) -> None:
    file = write_keys(tmp_path / "keys.toml", "a")
    ring = opened(file)
    file.unlink()
    assert events(ring) == ["keys file gone, and its keys stay in force"]
    assert known(ring, "a")
    write_keys(file, "b")
    assert events(ring) == ["keys loaded"]
    assert not known(ring, "a")


def test_a_site_that_a_key_names_has_to_have_rules_and_keeps_them(tmp_path: Path) -> None:
    file = write_keys(tmp_path / "keys.toml", "a")
    sites = tmp_path / "sites"
    sites.mkdir()
    ring = opened(file, sites=sites)
    write_keys(file, "a", "b", more="sites.b = 'tiny'\n")
    assert events(ring) == [STAYS]
    assert not known(ring, "b")
    rulebook = ring._rulebook
    site = write_site(sites)
    rulebook.look()
    assert events(ring) == ["keys loaded"]
    site.unlink()
    rulebook.look()
    assert rulebook.find("tiny") is not None
    write_keys(file, "a", "b")
    assert events(ring) == ["keys loaded"]
    rulebook.look()
    assert rulebook.all == []


def test_a_site_that_a_key_names_has_to_sort_what_the_model_says(tmp_path: Path) -> None:
    model = read_manifest(write_bundle(tmp_path / "models"))
    sites = tmp_path / "sites"
    sites.mkdir()
    fewer = {name: bin for name, bin in TINY["superclasses"].items() if name != "organic"}
    write_site(sites, {"superclasses": fewer})
    file = write_keys(tmp_path / "keys.toml", "a")
    ring = opened(file, sites=sites, model=lambda: model)
    write_keys(file, "a", more="sites.a = 'tiny'\n")
    assert STAYS in events(ring)
    assert ring.keys.sites == {}


def test_a_worker_to_come_begins_with_what_the_others_took_over_last(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    file = write_keys(tmp_path / "keys.toml", "a", "leaked")
    first = opened(file, shared=shared)
    write_keys(file, "a")
    first.look()
    for faulty in ("clients.", "", None):
        file.unlink() if faulty is None else file.write_text(faulty)
        another = opened(file, shared=shared)
        assert len(events(another)) == 1
        assert [known(another, key) for key in ("a", "leaked")] == [True, False]
    write_keys(file, "b")
    another = opened(file, shared=shared)
    another.look()
    assert [known(another, key) for key in ("a", "b")] == [False, True]
    assert "b" not in (shared / module.SHARED).read_text().split(digest_of("b"))[1]
    assert [one.name for one in shared.iterdir()] == [module.SHARED]


def test_keys_that_cannot_be_shared_are_in_force_all_the_same(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    file = write_keys(tmp_path / "keys.toml", "a")
    ring = opened(file, shared=shared)
    write_keys(file, "b")
    for one in shared.iterdir():
        one.unlink()
    shared.rmdir()
    assert events(ring) == ["keys not shared with workers to come", "keys loaded"]
    assert known(ring, "b")


def test_the_first_worker_does_not_start_with_a_faulty_file(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text("clients.")
    with pytest.raises(SettingsError, match="is not TOML"):
        opened(file, shared=tmp_path)


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    text = write_keys(tmp_path / "keys.toml", "a").read_text()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(text,))
    writer.start()
    ring = opened(pipe)
    writer.join()
    assert events(ring) == []
    assert known(ring, "a")


def test_without_a_file_there_are_no_keys(tmp_path: Path) -> None:
    ring = opened(None, shared=tmp_path, sites=tmp_path)
    assert events(ring) == []
    assert ring.keys.client(None) is None
    assert list(tmp_path.iterdir()) == []


def test_a_changed_file_is_not_read_on_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    read = module.text_of

    def noted(file: Path) -> str:
        threads.append(threading.current_thread())
        return read(file)

    ring = opened(write_keys(tmp_path / "keys.toml", "a"))
    monkeypatch.setattr(module, "text_of", noted)

    async def watched() -> None:
        watching = asyncio.create_task(ring.watch(0.01))
        while not threads:
            await asyncio.sleep(0.01)
        watching.cancel()

    asyncio.run(asyncio.wait_for(watched(), 30.0))
    assert threads[0] is not threading.main_thread()
