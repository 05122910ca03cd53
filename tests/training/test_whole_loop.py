"""train, calibrate, evaluate, export, serve, classify: the real command, a real socket."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from PIL import Image

from service.bundle import OUTPUTS, Bundle, read_bundle
from service.classifier import Classifier
from service.errors import BundleError
from service.self_test import check_answers
from tests.integration.server import running
from training.data.photos import read_photos
from training.errors import ConfigError, ExportError
from training.export import export_run, portable
from training.graph import REFERENCES
from training.outcome import measure, photos_for
from training.self_test import self_test_photos
from training.verify import check_against_model, check_invariance

SUPERBIN = Path(sys.executable).with_name("superbin")
COLOURS = {"amber": (220, 160, 20), "cobalt": (20, 50, 200)}
RECORD = """
name = "loop"
[data]
px = 32
cache_px = 32
[backbone]
name = "resnet18"
pretrained = false
[bank]
size = 10
[augment]
scale_min = 0.8
rotation_degrees = 5.0
[train]
epochs = 4
batch = 8
precision = "fp32"
ema = 0.0
"""


@dataclass(frozen=True)
class Loop:
    """What the commands left behind."""

    data: Path
    run: Path
    models: Path
    bundle: Bundle
    outputs: dict[str, str]


def superbin(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would, with decoded photos kept in `folder`."""
    variables = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    command = [str(SUPERBIN), *map(str, words)]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def draw_photos(root: Path) -> None:
    """Two superclasses of two kinds each: plain colours in two brightnesses, with noise."""
    random = np.random.default_rng(0)
    for superclass, colour in COLOURS.items():
        for kind, shade in (("light", 1.0), ("dark", 0.5)):
            folder = root / f"{superclass}_{kind}"
            folder.mkdir(parents=True)
            for index in range(20):
                noise = random.normal(0.0, 20.0, (40, 48, 3))
                pixels = np.clip(np.array(colour) * shade + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{index:02}.jpg", quality=95)
    lines = [f'{name} = ["{name}_light", "{name}_dark"]' for name in COLOURS]
    (root / "superclasses.toml").write_text("\n".join(["[superclasses]", *lines]))
    (root / "amber_light" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photo")


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    folder = tmp_path_factory.mktemp("loop")
    data, run, models = folder / "photos", folder / "run", folder / "models"
    draw_photos(data)
    (folder / "loop.toml").write_text(RECORD)
    steps: dict[str, list[object]] = {
        "train": ["train", folder / "loop.toml", "--data", data, "--out", run],
        "calibrate": ["calibrate", run, "--data", data, "--error-rate", 0.2],
        "evaluate": ["evaluate", run, "--data", data, "--split", "val"],
        "export": ["export", run, "--data", data, "--out", models / "loop" / "1"],
    }
    outputs = {}
    for name, words in steps.items():
        done = superbin(folder, *words)
        assert done.returncode == 0, f"{name}: {done.stdout}\n{done.stderr}"
        outputs[name] = done.stdout
    return Loop(data, run, models, read_bundle(models / "loop" / "1"), outputs)


def test_an_export_says_what_val_was_too_small_for(loop: Loop) -> None:
    assert "nothing of items: expected at least 30 photos of val" in loop.outputs["export"]
    assert "nothing of drift: expected at least 100 photos of val" in loop.outputs["export"]
    assert loop.bundle.manifest.item_spread is None
    assert loop.bundle.manifest.drift is None


def test_the_exported_model_is_served_and_right(loop: Loop) -> None:
    with running(loop.models, model="loop") as server:
        photo = (loop.data / "cobalt_dark" / "03.jpg").read_bytes()
        answer = httpx.post(f"{server.url}/v1/classify", files={"file": ("a.jpg", photo)}).json()
    (result,) = answer["results"]
    assert answer["model"] == {"name": "loop", "version": "1"}
    assert result["superclass"] == "cobalt"
    bank = {item.id for item in loop.bundle.manifest.bank.items}
    weights = [item["weight"] for item in result["references"]]
    assert {item["id"] for item in result["references"]} <= bank
    assert weights == sorted(weights, reverse=True)
    assert sum(weights) + result["self_weight"] <= 1.0 + 1e-4


def test_runs_are_compared_as_markdown(loop: Loop, tmp_path: Path) -> None:
    done = superbin(tmp_path, "compare", loop.run, "--split", "val")
    assert done.returncode == 0, done.stderr
    assert "| loop | bank (served) | accuracy |" in done.stdout
    missing = superbin(tmp_path, "compare", loop.run, "--split", "test")
    assert missing.returncode == 2
    assert "superbin evaluate" in missing.stderr


def test_a_report_on_other_photos_is_not_overwritten(loop: Loop, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(loop.data, other)
    first = photos_for(loop.run, other, None).split("val")[0]
    (other / first.path).unlink()
    report = loop.run / "evaluation-val" / "report.json"
    before = report.read_bytes()
    words = ["evaluate", loop.run, "--data", other, "--split", "val"]
    refused = superbin(tmp_path, *words)
    assert refused.returncode == 2
    assert "has the figures of other photos, those of 'photos'" in refused.stderr
    assert report.read_bytes() == before
    elsewhere = superbin(tmp_path, *words, "--out", tmp_path / "report")
    assert elsewhere.returncode == 0, elsewhere.stderr
    again = superbin(tmp_path, "evaluate", loop.run, "--data", loop.data, "--split", "val")
    assert again.returncode == 0, again.stderr


def test_the_command_answers_as_the_server_does(loop: Loop, tmp_path: Path) -> None:
    photo = loop.data / "amber_dark" / "01.jpg"
    words = ["classify", photo, "--models-dir", loop.models, "--model", "loop", "--json"]
    done = superbin(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["superclass"] == "amber"


def test_a_photo_that_does_not_decode_is_named_and_left_out(loop: Loop) -> None:
    bad = json.loads((loop.run / "bad_photos.json").read_text())
    report = json.loads((loop.run / "evaluation-val" / "report.json").read_text())
    assert "amber_light/broken.jpg" in {*bad, *report["bad_photos"]}


def test_the_evaluation_has_every_figure_and_picture(loop: Loop) -> None:
    folder = loop.run / "evaluation-val"
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    assert report["accuracy"] > 0.8
    assert set(report["superclasses"]) == set(COLOURS)
    assert {"-/amber_dark", "-/cobalt_light"} <= set(report["subclasses"])
    assert report["ece_after_calibration"] <= 1.0
    contexts = " ".join(report["other_contexts"])
    assert "batch protocol" in contexts
    assert "lone photo" in contexts
    for name in ("confusion", "reliability", "risk-coverage", "superclasses"):
        with Image.open(folder / f"{name}.png") as picture:
            assert min(picture.size) > 200
    assert "batch protocol" in loop.outputs["evaluate"]


def test_the_manifest_says_where_the_model_comes_from(loop: Loop) -> None:
    manifest = loop.bundle.manifest
    assert set(manifest.variants) == {"fp32", "int8"}
    assert len(manifest.bank.items) == 10
    assert manifest.provenance.config["name"] == "loop"
    assert {metric.mode for metric in manifest.metrics} == {"bank", "batch", "lone"}
    assert manifest.calibration.wanted_error_rate == 0.2
    card = (loop.bundle.path / "CARD.md").read_text()
    assert str(loop.data.parent) not in card + (loop.bundle.path / "manifest.json").read_text()
    assert "amber" in card
    assert "superbin train" in card


def test_the_graph_is_what_the_contract_says(loop: Loop) -> None:
    for variant in ("fp32", "int8"):
        path = loop.bundle.model_path(variant)
        assert b"training/" not in path.read_bytes()  # no source file of the exporter's machine
        graph = onnx.load(path).graph
        shapes = {
            value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in [*graph.input, *graph.output]
        }
        assert shapes["images"] == ["N", 32, 32, 3]
        assert shapes["bank_keys"][0] == "M"
        assert shapes["bank_values"][0] == "M"
        assert {"bank_keys", "bank_values"} <= {tensor.name for tensor in graph.initializer}
        assert [value.name for value in graph.output] == list(OUTPUTS)
        quantised = any(node.op_type == "QuantizeLinear" for node in graph.node)
        assert quantised == (variant == "int8")


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_the_bank_can_be_replaced_by_one_of_another_size(loop: Loop, variant: str) -> None:
    path = loop.bundle.model_path(variant)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    graph = onnx.load(path).graph
    bank = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.name in ("bank_keys", "bank_values")
    }
    images = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), dtype=np.uint8)
    stored = session.run(None, {"images": images})
    given = session.run(None, {"images": images, **bank})
    larger = {name: np.concatenate([items, items]) for name, items in bank.items()}
    doubled = session.run(None, {"images": images, **larger})
    np.testing.assert_array_equal(stored[0], given[0])
    assert doubled[2].shape == (3, REFERENCES)
    assert doubled[2].max() >= 10
    np.testing.assert_allclose(np.linalg.norm(doubled[1], axis=1), 1.0, rtol=1e-5)


def test_export_refuses_a_graph_that_differs_from_the_model(loop: Loop) -> None:
    reference = measure(loop.run, loop.data, "val", None, "cpu")
    onnx_outcome = measure(loop.bundle.path, loop.data, "val", None, "cpu")
    reference.logits[0] = reference.logits[0, ::-1].copy()
    with pytest.raises(ExportError, match="differ from PyTorch"):
        check_against_model(onnx_outcome, reference)


def test_export_refuses_answers_that_depend_on_the_batch(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Classifier.run

    def leaky(self: Classifier, images: Any) -> Any:
        """As if photos attended to each other."""
        answers = run(self, images)
        answers.probabilities[:] += 1e-3 * len(images)
        return answers

    monkeypatch.setattr(Classifier, "run", leaky)
    sample = np.zeros((4, 32, 32, 3), dtype=np.uint8)
    with pytest.raises(ExportError, match="change by up to"):
        check_invariance(loop.bundle, "fp32", sample)


def test_the_bundle_brings_photos_to_try_itself_with(loop: Loop, tmp_path: Path) -> None:
    cases = loop.bundle.manifest.self_test
    assert len(cases) == 7  # all of val but the one that does not decode
    check_answers(Classifier(loop.bundle))
    other = loop.bundle.manifest.model_copy(
        update={"self_test": (cases[0].model_copy(update={"probabilities": (9.0, 9.0)}),) * 7}
    )
    with pytest.raises(BundleError, match="self-test photo"):
        check_answers(Classifier(Bundle(loop.bundle.path, other)))


def test_the_self_tests_photos_can_be_chosen(loop: Loop, tmp_path: Path) -> None:
    run = loop.run
    part, photos = tmp_path / "part", tmp_path / "photos"
    part.mkdir()
    photos.mkdir()
    data = read_photos(loop.data)
    with pytest.raises(ConfigError, match="expected photos for the self-test"):
        self_test_photos(part, photos, data, run)
    (photos / "b.png").write_bytes(b"no photo")
    with pytest.raises(ConfigError, match=r"self-test photo .*b\.png"):
        self_test_photos(part, photos, data, run)
    good = (loop.data / data.split("train")[0].path).read_bytes()
    (photos / "b.png").write_bytes(good)
    assert self_test_photos(part, photos, data, run) == ["self-test-b.png"]
    assert (part / "self-test-b.png").read_bytes() == good
    (photos / "dir.jpg").mkdir()
    assert self_test_photos(part, photos, data, run) == ["self-test-b.png"]


def test_a_card_and_photos_for_the_self_test_are_checked_before_anything_is_measured(
    loop: Loop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models, photos, nowhere = tmp_path / "models", tmp_path / "photos", tmp_path / "nowhere"
    photos.mkdir()
    (photos / "m\udcfcll.jpg").write_bytes(b"no photo")
    given: list[tuple[Path | None, Path | None, str]] = [
        (None, nowhere, r"a folder of photos for the self-test, got .*nowhere"),
        (None, photos, r"m\\xfcll\.jpg: its name is not in UTF-8"),
        (nowhere, None, r"a Markdown file for the card, got .*nowhere"),
    ]
    for card, self_test, told in given:
        with pytest.raises(ConfigError, match=told):
            export_run(loop.run, loop.data, models / "loop" / "1", None, card, self_test, "cpu")
    assert not models.exists()
    assert capsys.readouterr().err == ""


def test_a_version_is_never_overwritten(loop: Loop) -> None:
    before = (loop.bundle.path / "manifest.json").read_bytes()
    with pytest.raises(Exception, match="never overwritten"):
        export_run(loop.run, loop.data, loop.bundle.path, None, None, None, "cpu")
    assert (loop.bundle.path / "manifest.json").read_bytes() == before


def test_export_asks_for_calibration_first(loop: Loop, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("record.json", "model.pt"):
        (run / name).write_bytes((loop.run / name).read_bytes())
    done = superbin(tmp_path, "export", run, "--data", loop.data, "--out", tmp_path / "m" / "1")
    assert done.returncode == 2
    assert "superbin calibrate" in done.stderr
    assert not (tmp_path / "m").exists()


def test_a_bundles_name_is_checked_before_anything_is_measured(loop: Loop, tmp_path: Path) -> None:
    for out in (tmp_path / "My" / "1", tmp_path / "my model" / "1"):
        done = superbin(tmp_path, "export", loop.run, "--data", loop.data, "--out", out)
        assert done.returncode == 2
        assert "expected a folder models/<name>/<version>" in done.stderr
        assert not out.parent.exists()


def test_a_command_is_kept_without_the_folders_of_the_machine() -> None:
    command = "superbin train mine --data /data/my-photos --out ../runs/mine --set train.epochs=2"
    kept = "superbin train mine --data my-photos --out mine --set train.epochs=2"
    assert portable(command) == kept
