"""Photos that are doubted, through a real server: both APIs, both forms of answer, the metrics."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.integration.server import Server, running
from tests.photo_factory import encode
from tests.tiny_bundle import ITEMS, WIDTH, add_limits, write_bundle
from tests.tiny_graph import SIZE

DARK = encode(Image.new("RGB", (64, 64), (9, 9, 9)))


@pytest.fixture(scope="module")
def doubting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("doubting")
    rows = np.random.default_rng(0).normal(size=(ITEMS, WIDTH)).astype(np.float32)
    path = write_bundle(models, threshold=0.0)
    add_limits(path, rows / np.linalg.norm(rows, axis=1, keepdims=True))
    with running(models, model="tiny") as server:
        yield server


def good() -> bytes:
    pixels = np.random.default_rng(1).integers(0, 256, (SIZE // 4, SIZE // 4, 3), dtype=np.uint8)
    return encode(Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.NEAREST))


def test_a_doubted_photo_goes_to_a_person_and_its_neighbour_does_not(doubting: Server) -> None:
    files = [("file", ("dark.png", DARK)), ("file", ("good.png", good()))]
    dark, fine = httpx.post(f"{doubting.url}/v1/classify", files=files).json()["results"]
    assert (dark["decision"], fine["decision"]) == ("manual", "sort")
    assert [doubt["reason"] for doubt in dark["doubts"]] == ["too_dark", "blurred", "empty"]
    assert dark["doubts"][0]["detail"].startswith("expected bright parts of a luminance of 60 of")
    assert (dark["doubts"][0]["measure"], dark["doubts"][0]["limit"]) == (9.0, 60.0)
    assert fine["doubts"] == []


def test_lines_have_the_doubts_as_well(doubting: Server) -> None:
    headers = {"accept": "application/x-ndjson", "content-type": "image/png"}
    answer = httpx.post(f"{doubting.url}/v1/classify", content=DARK, headers=headers)
    result = json.loads(answer.text)["result"]
    assert result["decision"] == "manual"
    assert result["doubts"]


def test_the_open_inference_protocol_has_them_by_photo(doubting: Server) -> None:
    dark, fine = (
        np.asarray(Image.open(io.BytesIO(photo)).convert("RGB").resize((SIZE, SIZE)))
        for photo in (DARK, good())
    )
    tensor = {
        "name": "images",
        "datatype": "UINT8",
        "shape": [2, SIZE, SIZE, 3],
        "data": np.stack([dark, fine]).ravel().tolist(),
    }
    asked = {"inputs": [tensor], "outputs": [{"name": "doubts"}]}
    (output,) = httpx.post(f"{doubting.url}/v2/models/tiny/infer", json=asked).json()["outputs"]
    assert output["datatype"] == "BYTES"
    assert output["data"] == ["too_dark,blurred,empty", ""]


def test_the_metrics_count_reasons_and_follow_the_decision(doubting: Server) -> None:
    def counted(name: str) -> float:
        lines = httpx.get(f"{doubting.url}/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    manual = counted('superbin_predictions_total{decision="manual",model="tiny/1"')
    before = counted('superbin_doubts_total{reason="too_dark"}')
    httpx.post(
        f"{doubting.url}/v1/classify", content=DARK, headers={"content-type": "image/png"}
    ).raise_for_status()
    assert counted('superbin_doubts_total{reason="too_dark"}') == before + 1
    assert counted('superbin_doubts_total{reason="too_bright"}') == 0
    after = counted('superbin_predictions_total{decision="manual",model="tiny/1"')
    assert after == manual + 1


def test_doubts_can_be_switched_off(tmp_path: Path) -> None:
    path = write_bundle(tmp_path, threshold=0.0)
    add_limits(path, np.eye(ITEMS, WIDTH, dtype=np.float32), threshold=0.5)
    with running(tmp_path, model="tiny", doubts="none") as server:
        headers = {"content-type": "image/png"}
        answer = httpx.post(f"{server.url}/v1/classify", content=DARK, headers=headers).json()
    assert answer["results"][0]["decision"] == "sort"
