"""The session runs where it was asked to, and its answers have the contract's shapes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from service.bundle import MANIFEST, read_bundle, record_of
from service.classifier import Classifier
from service.devices import session_devices
from service.errors import BundleError, ProviderError
from service.sessions import open_sessions, warm_up
from service.settings import Settings
from tests.tiny_bundle import ITEMS, SUPERCLASSES, WIDTH, break_run, write_bundle
from tests.tiny_graph import REFERENCES, SIZE


def photos(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (number, SIZE, SIZE, 3), dtype=np.uint8)


def test_answers_have_the_shapes_of_the_contract(classifier: Classifier) -> None:
    answers = classifier.run(photos(3))
    assert answers.probabilities.shape == (3, len(SUPERCLASSES))
    assert answers.embedding.shape == (3, WIDTH)
    assert answers.references.shape == answers.reference_weights.shape == (3, REFERENCES)
    assert answers.self_weight.shape == (3,)
    np.testing.assert_allclose(answers.probabilities.sum(axis=1), 1.0, rtol=1e-5)
    assert (np.diff(answers.reference_weights) <= 0).all()
    assert answers.references.max() < ITEMS
    assert len(answers[1:2]) == 1


def test_a_gpu_that_is_not_there_is_no_cpu(models_dir: Path) -> None:
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this ONNX Runtime is built for CUDA")
    with pytest.raises(ProviderError, match="Install the gpu extra"):
        Classifier(read_bundle(models_dir / "tiny" / "1"), device="cuda")


@pytest.mark.parametrize("device", ["gpu", "cpu:0", "cuda:x", "", "cpu,", "cpu:", "cpu;cuda:0"])
def test_devices_that_there_are_not_are_refused(models_dir: Path, device: str) -> None:
    with pytest.raises(ProviderError, match="expected a device of cpu, cpu:N for N sessions"):
        Classifier(read_bundle(models_dir / "tiny" / "1"), device=device)


def test_a_variant_that_there_is_not_is_refused_with_those_that_are(models_dir: Path) -> None:
    with pytest.raises(BundleError, match="fp32"):
        Classifier(read_bundle(models_dir / "tiny" / "1"), variant="int8")


def test_a_graph_that_is_none_is_refused(tmp_path: Path) -> None:
    path = write_bundle(tmp_path)
    (path / "model.onnx").write_bytes(b"no graph")
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["files"]["model.onnx"] = record_of(path / "model.onnx").model_dump()
    (path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="cannot load"):
        Classifier(read_bundle(path))


def test_a_graph_of_another_size_than_the_manifest_says_is_refused(tmp_path: Path) -> None:
    path = write_bundle(tmp_path)
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["preprocessing"]["height"] = 64
    (path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="expected input images"):
        Classifier(read_bundle(path))


@pytest.mark.parametrize(
    ("device", "sessions"),
    [
        ("cpu", ["cpu"]),
        ("cpu:3", ["cpu"] * 3),
        ("cuda:0,cuda:1", ["cuda:0", "cuda:1"]),
        ("tensorrt,cpu:2", ["tensorrt", "cpu", "cpu"]),
    ],
)
def test_a_setting_names_a_device_for_each_session(device: str, sessions: list[str]) -> None:
    assert session_devices(device) == sessions


@pytest.mark.parametrize(
    ("a", "b", "sizes"),
    [(0.008, 0.0, [1, 2]), (0.0001, 0.01, [1, 2, 4, 8, 12]), (1.0, 0.1, [1, 2, 4])],
)
def test_the_warm_up_goes_as_far_as_batches_are_worth_it(
    monkeypatch: pytest.MonkeyPatch, models_dir: Path, a: float, b: float, sizes: list[int]
) -> None:
    monkeypatch.setattr(Classifier, "time_batch", lambda self, photos: a * photos + b)
    classifier = Classifier(read_bundle(models_dir / "tiny" / "1"))
    assert [photos for photos, _ in warm_up(classifier, 12)] == sizes


@pytest.mark.parametrize(("device", "largest"), [("cpu", 2), ("cpu:1", 12)])
def test_no_batch_is_larger_than_was_warmed_up_for(
    monkeypatch: pytest.MonkeyPatch, models_dir: Path, device: str, largest: int
) -> None:
    """As on a busy machine, where each batch seems to cost the same."""
    monkeypatch.setattr(Classifier, "time_batch", lambda self, photos: 0.01)
    settings = Settings(models_dir=models_dir, device=device, threads=2, max_batch=12)
    sessions = open_sessions(settings, models_dir / "tiny" / "1")
    assert sessions.max_batch == largest == max(photos for photos, _ in sessions.measured)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_each_core_has_a_thread_and_all_share_a_session(models_dir: Path, threads: int) -> None:
    settings = Settings(models_dir=models_dir, threads=threads)
    sessions = open_sessions(settings, models_dir / "tiny" / "1")
    assert len(sessions.workers) == threads
    assert len(set(sessions.workers)) == 1


@pytest.mark.parametrize("device", ["cpu", "cpu:1"])
def test_a_graph_that_loads_and_does_not_run_is_refused(tmp_path: Path, device: str) -> None:
    path = write_bundle(tmp_path)
    break_run(path)
    settings = Settings(models_dir=tmp_path, device=device, threads=2)
    with pytest.raises(BundleError, match=rf"tiny/1 \(fp32\) cannot run on {device}: "):
        open_sessions(settings, path)
