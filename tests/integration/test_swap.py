"""Models side by side, swapped under load, refused when they are bad, rolled back."""

from __future__ import annotations

import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from service.bundle import MANIFEST, MODEL, SelfTest, read_manifest, record_of, write_manifest
from service.keys import digest_of
from tests.integration.server import Server, running, until
from tests.tiny_bundle import break_run, write_bundle
from tests.tiny_site import TINY, write_site

PHOTOS = Path(__file__).parent.parent / "photos"
PHOTO = (PHOTOS / "glass.jpg").read_bytes()
ADMIN = {"authorization": "Bearer the-admins-key"}
JPEG = {"content-type": "image/jpeg"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Models `tiny/1` and `other/1`, and an admin's key."""
    models = tmp_path / "models"
    write_bundle(models)
    write_bundle(models, "other", seed=3)
    keys = f'[admins]\nops = "{digest_of("the-admins-key")}"\n'
    (tmp_path / "keys.toml").write_text(keys)
    return models


@contextmanager
def served(folder: Path, **settings: object) -> Iterator[tuple[Server, httpx.Client]]:
    settings = {"keys_file": folder.parent / "keys.toml", "watch_s": 0} | settings
    with (
        running(folder, **settings) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        yield server, client


def ask(client: httpx.Client, model: str | None = None) -> httpx.Response:
    return client.post(
        "/v1/classify", params={"model": model} if model else {}, content=PHOTO, headers=JPEG
    )


def version(client: httpx.Client, model: str | None = None) -> str:
    answer = ask(client, model).json()["model"]
    return f"{answer['name']}/{answer['version']}"


def answers(version: str, *at_next_start: str) -> dict[str, object]:
    return {"name": "tiny", "version": version, "at_next_start": [*at_next_start]}


def load(client: httpx.Client, name: str, version: str | None = None) -> httpx.Response:
    params = {"version": version} if version else {}
    return client.post(f"/v1/models/{name}/load", params=params, headers=ADMIN)


def test_models_answer_beside_each_other(folder: Path) -> None:
    write_bundle(folder, version="2", seed=1)
    with served(folder, model="other, tiny/1,tiny/2") as (_, client):
        assert version(client) == "other/1"
        assert version(client, "tiny") == version(client, "tiny/1") == "tiny/1"
        assert version(client, "tiny/2") == "tiny/2"
        answers = {str(ask(client, m).json()["results"]) for m in ("other", "tiny/1", "tiny/2")}
        assert len(answers) == 3
        unknown = ask(client, "tiny/3")
        assert unknown.status_code == 404
        assert "expected a model of other/1, tiny/1, tiny/2" in unknown.json()["detail"]
        assert client.get("/v2/models/tiny/versions/2").json()["versions"] == ["2"]
        info = client.get("/metrics").text
        assert info.count("superbin_model_info{") == 3


def test_a_model_is_swapped_refused_and_rolled_back_under_load_without_one_failure(
    folder: Path,
) -> None:
    with served(folder) as (server, client):
        found: Counter[str] = Counter()
        stop = threading.Event()

        def keep_asking() -> None:
            with httpx.Client(base_url=server.url, timeout=30) as own:
                while not stop.is_set():
                    response = ask(own)
                    ok = response.status_code == 200
                    found[version_of(response) if ok else f"{response.status_code}"] += 1

        def version_of(response: httpx.Response) -> str:
            answer = response.json()
            (result,) = answer["results"]
            seen = result["superclass"], round(result["confidence"], 3)
            kept.setdefault(answer["model"]["version"], set()).add(seen)
            return str(answer["model"]["version"])

        kept: dict[str, set[tuple[str, float]]] = {}
        threads = [threading.Thread(target=keep_asking) for _ in range(6)]
        for thread in threads:
            thread.start()
        try:
            until(lambda: found["1"], "the first version to answer")
            for number in range(2, 8):
                write_bundle(folder, version=str(number), seed=number)
                assert load(client, "tiny").json() == answers(str(number), f"tiny/{number}")
                before = found[str(number)]
                until(lambda n=number, b=before: found[str(n)] > b, "the new version to answer")
            (write_bundle(folder, version="8") / "model.onnx").write_bytes(b"altered")
            refused = load(client, "tiny", "8")
            assert refused.status_code == 409
            assert "model.onnx" in refused.json()["detail"]
            before = found["7"]
            until(lambda: found["7"] > before, "the version of before to answer on")
            rolled = client.post("/v1/models/tiny/roll-back", headers=ADMIN)
            assert rolled.json() == answers("6", "tiny/7")  # the newest sound one
            assert version(client) == "tiny/6"
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert set(found) == {str(number) for number in range(1, 8)}, found
        assert all(len(answers) == 1 for answers in kept.values())  # each version its own
        assert len(set.union(*kept.values())) == 7
        assert client.get("/metrics").text.count("superbin_model_info{") == 1


def test_a_version_that_a_site_in_use_cannot_sort_is_refused(folder: Path) -> None:
    sites = folder.parent / "sites"
    sites.mkdir()
    write_site(sites)
    others = ("recyclable", "residual", "organic", "electronic")
    settings = {"model": "tiny", "site": "tiny", "sites_dir": sites}
    with served(folder, **settings) as (_, client):
        write_bundle(folder, version="2", superclasses=others)
        refused = load(client, "tiny", "2")
        assert refused.status_code == 409
        told = "SUPERBIN_SITE: tiny: expected under superclasses: where ['electronic'] of the model"
        assert told in refused.json()["detail"]
        assert version(client) == "tiny/1"
        assert ask(client).json()["results"][0]["sorting"]["site"] == "tiny"
    with served(folder, **settings) as (server, client):  # no outage at the next start either
        assert version(client) == "tiny/1"
        (line,) = [one for one in server.log_lines() if one["event"] == "model refused"]
        assert told in line["error"]
    write_site(sites, {"superclasses": TINY["superclasses"] | {"electronic": "manual"}})
    with served(folder, **settings) as (_, client):
        assert version(client) == "tiny/2"
        assert ask(client).json()["results"][0]["sorting"]["site"] == "tiny"


def test_rolling_back_goes_back_one_by_one_and_then_says_that_there_is_no_more(
    folder: Path,
) -> None:
    for number in (2, 3):
        write_bundle(folder, version=str(number), seed=number)
    with served(folder, model="tiny/1") as (_, client):
        for number in ("2", "3"):
            assert load(client, "tiny", number).json() == answers(number, "tiny/1")
        for number in ("2", "1"):
            rolled = client.post("/v1/models/tiny/roll-back", headers=ADMIN)
            assert rolled.json() == answers(number, "tiny/1")
            assert version(client) == f"tiny/{number}"
        end = client.post("/v1/models/tiny/roll-back", headers=ADMIN)
        assert end.status_code == 409
        assert "no version of tiny served before tiny/1" in end.json()["detail"]
        nobody = client.post("/v1/models/none/roll-back", headers=ADMIN)
        assert nobody.status_code == 404


def test_roll_backs_at_the_same_time_go_back_one_version_each(folder: Path) -> None:
    for number in (2, 3, 4):
        write_bundle(folder, version=str(number), seed=number)
    with served(folder, model="tiny/1") as (_, client), ThreadPoolExecutor(2) as pool:
        for number in ("2", "3", "4"):
            load(client, "tiny", number)
        route = "/v1/models/tiny/roll-back"
        both = pool.map(lambda _: client.post(route, headers=ADMIN).json()["version"], range(2))
        assert set(both) == {"3", "2"}
        assert version(client) == "tiny/2"
        client.post(route, headers=ADMIN)
        assert version(client) == "tiny/1"


def test_what_a_start_would_serve_is_told_as_the_folder_is_now(folder: Path) -> None:
    with served(folder) as (_, client):
        write_bundle(folder, version="2", seed=1)
        assert load(client, "tiny", "1").json() == answers("1", "tiny/2")  # and serves already


def test_a_version_that_is_served_beside_can_be_what_the_name_stands_for(folder: Path) -> None:
    write_bundle(folder, version="2", seed=1)
    with served(folder, model="tiny/1,tiny/2") as (_, client):
        for _ in range(2):  # once there, it is kept
            assert load(client, "tiny", "2").json() == answers("2", "tiny/1", "tiny/2")
            assert version(client) == version(client, "tiny") == "tiny/2"
        assert client.get("/metrics").text.count("superbin_model_info{") == 1
        rolled = client.post("/v1/models/tiny/roll-back", headers=ADMIN)
        assert rolled.json() == answers("1", "tiny/1", "tiny/2")
        assert version(client) == "tiny/1"
        assert version(client, "tiny/2") == "tiny/2"
        assert client.get("/metrics").text.count("superbin_model_info{") == 2


def corrupt_graph(path: Path) -> None:
    (path / MODEL).write_bytes(b"no graph")
    files = read_manifest(path).files | {MODEL: record_of(path / MODEL)}
    write_manifest(path, read_manifest(path).model_copy(update={"files": files}))


def altered(path: Path) -> None:
    with (path / MODEL).open("ab") as file:
        file.write(b"x")


def no_manifest(path: Path) -> None:
    (path / MANIFEST).write_text("{}")


def other_answers(path: Path) -> None:
    (path / "self-test-glass.jpg").write_bytes(PHOTO)
    manifest = read_manifest(path)
    case = SelfTest(file="self-test-glass.jpg", probabilities=(0.97, 0.01, 0.01, 0.01))
    files = manifest.files | {case.file: record_of(path / case.file)}
    write_manifest(path, manifest.model_copy(update={"self_test": (case,), "files": files}))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (corrupt_graph, "ONNX Runtime cannot load it"),
        (altered, "expected SHA-256"),
        (no_manifest, "does not fit schema version"),
        (
            other_answers,
            "self-test photo self-test-glass.jpg on cpu (fp32): expected the probabilities",
        ),
        (break_run, "tiny/2 (fp32) cannot run on cpu: "),
        (shutil.rmtree, "expected a bundle 'tiny/2'"),
    ],
)
def test_a_bad_version_is_refused_and_the_old_one_serves_on(
    folder: Path, damage: object, told: str
) -> None:
    bundle = write_bundle(folder, version="2", seed=1)
    with served(folder, model="tiny/1") as (_, client):
        before = ask(client).json()["results"]
        damage(bundle)  # type: ignore[operator]
        refused = load(client, "tiny", "2")
        assert refused.status_code == 409
        assert refused.json()["reason"] == "model_refused"
        assert told in refused.json()["detail"]
        assert ask(client).json()["results"] == before
        assert client.get("/readyz").status_code == 200
        assert 'superbin_model_loads_total{outcome="refused"} 1.0' in client.get("/metrics").text


def test_a_bad_version_is_no_outage_at_the_next_start_either(folder: Path) -> None:
    write_bundle(folder, version="2", seed=1)
    altered(write_bundle(folder, version="10", seed=2))
    with served(folder, model="tiny,other") as (server, client):
        assert version(client) == "tiny/2"
        assert version(client, "other") == "other/1"
        (line,) = [line for line in server.log_lines() if line["event"] == "model refused"]
        assert line["model"] == "tiny/10"
        (ready,) = [line for line in server.log_lines() if line["event"] == "ready"]
        assert (ready["model"], ready["beside"]) == ("tiny/2", ["other/1"])
        assert 'superbin_model_loads_total{outcome="refused"} 1.0' in client.get("/metrics").text


def test_a_new_version_in_the_folder_is_served_and_a_bad_one_is_not(folder: Path) -> None:
    with served(folder, watch_s=0.1) as (_, client):
        assert version(client) == "tiny/1"
        write_bundle(folder.parent, "tiny", "10", seed=1).rename(folder / "tiny" / "10")
        until(lambda: version(client) == "tiny/10", "the new version")
        bundle = write_bundle(folder.parent, "tiny", "11", seed=2)
        whole = (bundle / MODEL).read_bytes()
        (bundle / MODEL).write_bytes(whole[:100])
        bundle.rename(folder / "tiny" / "11")

        def refused() -> bool:
            return 'outcome="refused"} 1.0' in client.get("/metrics").text

        until(refused, "the bad version to be refused")
        assert version(client) == "tiny/10"
        (folder / "tiny" / "11" / MODEL).write_bytes(whole)  # as if it had been copied slowly
        until(lambda: version(client) == "tiny/11", "the version to be whole")
        client.post("/v1/models/tiny/roll-back", headers=ADMIN)
        write_bundle(folder.parent, "tiny", "9", seed=3).rename(folder / "tiny" / "9")

        def listed() -> bool:
            models = client.get("/v1/models").json()["models"]
            return any(model["version"] == "9" for model in models)

        until(listed, "the older version to be seen")
        assert version(client) == "tiny/10"  # neither an older one nor what was rolled back


def test_what_was_rolled_back_comes_again_when_it_is_another_not_when_its_files_are_touched(
    folder: Path,
) -> None:
    """As where a folder is copied over itself."""
    write_bundle(folder, version="2", seed=1)
    with served(folder, watch_s=0.1) as (_, client):
        assert version(client) == "tiny/2"
        load(client, "tiny", "1")
        shutil.copytree(folder / "tiny" / "2", folder.parent / "copy")
        shutil.rmtree(folder / "tiny" / "2")
        (folder.parent / "copy").rename(folder / "tiny" / "2")
        for file in (folder / "tiny" / "2").iterdir():
            os.utime(file)
        write_bundle(folder.parent, "tiny", "0", seed=3).rename(folder / "tiny" / "0")

        def listed() -> bool:
            models = client.get("/v1/models").json()["models"]
            return any(model["version"] == "0" for model in models)

        until(listed, "the folder to be looked at")
        assert version(client) == "tiny/1"
        shutil.rmtree(folder / "tiny" / "2")
        write_bundle(folder.parent, "tiny", "2", seed=2).rename(folder / "tiny" / "2")
        until(lambda: version(client) == "tiny/2", "the other one of that version")


def test_of_versions_that_appear_together_the_newest_sound_one_is_served(folder: Path) -> None:
    with served(folder, watch_s=0.1) as (server, client):
        new = folder.parent / "new"
        for number in (2, 3):
            write_bundle(new, "tiny", str(number), seed=number)
        altered(write_bundle(new, "tiny", "4", seed=4))
        shutil.copytree(folder / "tiny" / "1", new / "tiny" / "1")
        shutil.move(folder / "tiny", folder.parent / "old")
        (new / "tiny").rename(folder / "tiny")
        until(lambda: version(client) == "tiny/3", "the sound one")
        events = [(line["event"], line.get("model")) for line in server.log_lines()]
        assert ("model refused", "tiny/4") in events
        assert ("model swapped", "tiny/3") in events
        assert ("model swapped", "tiny/2") not in events


def test_a_name_beside_a_version_of_it_follows_the_folder_and_can_be_rolled_back(
    folder: Path,
) -> None:
    write_bundle(folder, version="2", seed=1)
    with served(folder, model="tiny/1,tiny", watch_s=0.1) as (_, client):
        assert ask(client, "tiny/2").status_code == 200
        write_bundle(folder.parent, "tiny", "3", seed=2).rename(folder / "tiny" / "3")
        until(lambda: ask(client, "tiny/3").status_code == 200, "the new version")
        assert version(client) == version(client, "tiny") == "tiny/1"
        rolled = client.post("/v1/models/tiny/roll-back", headers=ADMIN)
        assert rolled.json() == answers("2", "tiny/1", "tiny/3")
        assert version(client, "tiny/2") == "tiny/2"
        assert version(client) == "tiny/1"


def test_another_model_can_be_loaded_beside_the_first(folder: Path) -> None:
    with served(folder) as (_, client):
        assert ask(client, "other").status_code == 404
        assert load(client, "other").json() == answers("1") | {"name": "other"}
        assert version(client, "other") == "other/1"
        assert version(client) == "tiny/1"


def test_nobody_changes_what_is_served_without_an_admins_key(folder: Path) -> None:
    with served(folder) as (_, client):
        for headers in ({}, {"authorization": "Bearer guess"}, {"x-api-key": "guess"}):
            refused = client.post("/v1/models/tiny/load", headers=headers)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
            assert refused.json()["reason"] == "key_refused"
    with served(folder, keys_file="") as (_, client):
        refused = client.post("/v1/models/tiny/load", headers=ADMIN)
        assert refused.status_code == 403
        assert "superbin key --admin" in refused.json()["detail"]


def shadow_counts(client: httpx.Client, model: str) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    lines = [line for line in lines if line.startswith("superbin_shadow_photos_total{")]
    lines = [line for line in lines if f'model="{model}"' in line]
    return {line.split('outcome="')[1].split('"')[0]: float(line.split()[-1]) for line in lines}


def test_a_shadow_sees_its_share_is_counted_and_never_answers(folder: Path) -> None:
    write_bundle(folder, version="2", seed=1)  # other answers
    write_bundle(folder, version="3", seed=0)  # the same ones
    with served(folder, model="tiny/1") as (_, client):
        before = ask(client).json()["results"]
        shadowed = client.post(
            "/v1/models/tiny/shadow", params={"version": "2", "share": 1.0}, headers=ADMIN
        )
        assert shadowed.json() == {"name": "tiny", "version": "2"}
        photos = [("file", (file.name, file.read_bytes())) for file in sorted(PHOTOS.glob("*.jpg"))]
        bad = ("file", ("bad", b"bad"))
        for _ in range(3):
            answer = client.post("/v1/classify", files=[*photos, bad]).json()
            assert answer["model"]["version"] == "1"
        until(
            lambda: sum(shadow_counts(client, "tiny/2").values()) == 18,
            "the shadow to have seen them",
        )
        assert shadow_counts(client, "tiny/2")["disagreed"] > 0
        assert ask(client).json()["results"] == before
        client.post("/v1/models/tiny/shadow", params={"version": "3", "share": 1.0}, headers=ADMIN)
        client.post("/v1/classify", files=photos)
        until(lambda: shadow_counts(client, "tiny/3") == {"agreed": 6}, "the same one to agree")
        assert client.delete("/v1/models/tiny/shadow", headers=ADMIN).status_code == 204
        assert client.get("/metrics").text.count("superbin_model_info{") == 1
        assert client.post("/v1/models/tiny/shadow", params={"version": "2"}).status_code == 401
