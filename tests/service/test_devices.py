"""What a GPU is given to run: a graph that it has operators for, in batches that are known to it.

There is none here, so the parts run on the CPU as they would on a GPU.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from structlog.testing import capture_logs

from service import sessions, staging
from service.bundle import read_bundle
from service.catalogue import list_models
from service.classifier import Answers, Classifier
from service.devices import check_placement, on_gpu
from service.errors import ProviderError
from service.schemas import ModelInfo
from service.settings import Settings
from tests import tiny_matching
from tests.tiny_graph import SIZE


def photos(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (number, SIZE, SIZE, 3), dtype=np.uint8)


def sizes_run(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Gets the sizes of the batches that ONNX Runtime sees from now on."""
    sizes: list[int] = []
    run = ort.InferenceSession.run

    def seen(self: ort.InferenceSession, outputs: list[str], feeds: dict[str, np.ndarray]) -> list:
        sizes.append(len(feeds["images"]))
        return list(run(self, outputs, feeds))

    bound = ort.InferenceSession.run_with_iobinding

    def seen_bound(self: ort.InferenceSession, binding: ort.IOBinding) -> None:
        bound(self, binding)
        sizes.append(binding.get_outputs()[0].shape()[0])

    monkeypatch.setattr(ort.InferenceSession, "run", seen)
    monkeypatch.setattr(ort.InferenceSession, "run_with_iobinding", seen_bound)
    return sizes


def refuse(device: str) -> None:
    raise ProviderError(f"{device} has none")


def same(left: Answers, right: Answers) -> bool:
    pairs = zip(vars(left).values(), vars(right).values(), strict=True)
    return all(a is b is None or np.allclose(a, b, atol=1e-6) for a, b in pairs)


@pytest.mark.parametrize(
    ("device", "answer"),
    [("cpu", False), ("cpu:4", False), ("cuda", True), ("cpu:2,cuda:1", True), ("tensorrt", True)],
)
def test_a_device_is_a_gpu_or_not(device: str, answer: bool) -> None:
    assert on_gpu(device) is answer


@pytest.mark.parametrize(
    ("device", "wanted", "runs"),
    [
        ("cpu", None, "int8"),
        ("cpu", "fp32", "fp32"),
        ("cuda", None, "fp32"),
        ("cuda", "int8", "int8"),
        ("tensorrt:1,cpu:2", None, "fp32"),
    ],
)
def test_a_gpu_gets_fp32_unless_told_otherwise(
    tmp_path: Path, device: str, wanted: str | None, runs: str
) -> None:
    """Of a bundle whose default is int8; it is listed as that, too."""
    bundle = read_bundle(tiny_matching.write_bundle(tmp_path))
    settings = Settings(models_dir=tmp_path, device=device, variant=wanted, threads=4)
    assert settings.variant_of(bundle) == runs
    (listed,) = list_models(settings)
    assert isinstance(listed, ModelInfo)
    assert listed.variant == runs
    assert listed.sha256 == bundle.manifest.files[bundle.manifest.variants[runs]].sha256


def test_a_gpu_gets_what_there_is_where_there_is_no_fp32(models_dir: Path) -> None:
    """And a bundle that lacks what is asked for is listed with what it has."""
    bundle = read_bundle(models_dir / "tiny" / "1")
    only = bundle.manifest.model_copy(
        update={"default_variant": "int8", "variants": {"int8": "model.onnx"}}
    )
    settings = Settings(models_dir=models_dir, device="cuda")
    assert settings.variant_of(type(bundle)(bundle.path, only)) == "int8"
    (listed,) = list_models(Settings(models_dir=models_dir, variant="int8"))
    assert isinstance(listed, ModelInfo)
    assert listed.variant == "fp32"


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize(("number", "size"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 12), (12, 12)])
def test_batches_are_filled_up_to_sizes_that_ran_before(
    monkeypatch: pytest.MonkeyPatch, models_dir: Path, number: int, size: int, pinned: bool
) -> None:
    bundle = read_bundle(models_dir / "tiny" / "1")
    plain = Classifier(bundle, threads=1).run(photos(number))
    classifier = Classifier(bundle, threads=1)
    if not pinned:
        monkeypatch.setattr(staging, "host_memory", refuse)
    classifier.keep_to([2, 12, 1, 4])
    sizes = sizes_run(monkeypatch)
    found = classifier.run(photos(number))
    assert sizes == [size]
    assert len(found) == number
    assert same(found, plain)


def test_a_batch_larger_than_all_of_them_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, models_dir: Path
) -> None:
    classifier = Classifier(read_bundle(models_dir / "tiny" / "1"), threads=1)
    classifier.keep_to([1, 2])
    sizes = sizes_run(monkeypatch)
    assert len(classifier.run(photos(5))) == 5
    assert sizes == [5]


def test_answers_stay_when_the_next_batch_comes_the_same_way(models_dir: Path) -> None:
    """And what the last one left there is no part of the next one's."""
    bundle = read_bundle(models_dir / "tiny" / "1")
    plain = Classifier(bundle, threads=1)
    classifier = Classifier(bundle, threads=1)
    classifier.keep_to([4])
    numbers = [4, 1, 3, 2, 4]
    found = [classifier.run(photos(number)) for number in numbers]
    for number, answers in zip(numbers, found, strict=True):
        assert same(answers, plain.run(photos(number)))


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_threads_do_not_share_a_batchs_memory(models_dir: Path, at_once: int) -> None:
    """Where there are more threads than places, the others run without one."""
    bundle = read_bundle(models_dir / "tiny" / "1")
    plain = Classifier(bundle, threads=1)
    classifier = Classifier(bundle, threads=1)
    classifier.keep_to([8], at_once)
    numbers = [1 + index % 8 for index in range(200)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda number: classifier.run(photos(number)), numbers))
    for number, answers in zip(numbers, found, strict=True):
        assert same(answers, plain.run(photos(number)))


def test_a_batch_that_fails_leaves_its_place_to_the_next(
    monkeypatch: pytest.MonkeyPatch, models_dir: Path
) -> None:
    classifier = Classifier(read_bundle(models_dir / "tiny" / "1"), threads=1)
    classifier.keep_to([2])
    sizes = sizes_run(monkeypatch)
    with pytest.raises(ValueError, match="broadcast"):
        classifier.run(np.zeros((1, SIZE, SIZE + 1, 3), dtype=np.uint8))
    assert len(classifier.run(photos(1))) == 1
    assert sizes == [2]


def test_memory_that_gives_other_answers_is_not_used(
    monkeypatch: pytest.MonkeyPatch, models_dir: Path
) -> None:
    """As where photos were copied before they were there, or not at all."""
    bundle = read_bundle(models_dir / "tiny" / "1")
    plain = Classifier(bundle, threads=1).run(photos(2))
    run = staging.Staging.run

    def stale(self: staging.Staging, images: np.ndarray) -> list[np.ndarray]:
        return run(self, np.zeros_like(images))

    monkeypatch.setattr(staging.Staging, "run", stale)
    classifier = Classifier(bundle, threads=1)
    with capture_logs() as logs:
        classifier.keep_to([2])
    (line,) = logs
    assert line["event"] == "no pinned memory"
    assert line["log_level"] == "warning"
    assert "as without pinned memory, got them" in line["error"]
    assert same(classifier.run(photos(2)), plain)


def test_a_gpu_that_this_onnx_runtime_has_no_library_for_has_no_such_memory() -> None:
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this ONNX Runtime is built for CUDA")
    with pytest.raises(ProviderError, match=r"cuda:0: no pinned memory: .*providers_cuda"):
        staging.host_memory("cuda:0")
    assert staging.host_memory("cpu") is None


def test_a_gpu_runs_no_size_that_was_not_warmed_up(
    monkeypatch: pytest.MonkeyPatch, models_dir: Path
) -> None:
    monkeypatch.setattr(sessions, "on_gpu", lambda device: True)
    monkeypatch.setattr(Classifier, "time_batch", lambda self, photos: 0.01)
    settings = Settings(models_dir=models_dir, device="cpu:1", threads=1, max_batch=12)
    found = sessions.open_sessions(settings, models_dir / "tiny" / "1")
    sizes = sizes_run(monkeypatch)
    for number in range(1, found.max_batch + 1):
        found.first.run(photos(number))
    assert set(sizes) == {number for number, _ in found.measured} == {1, 2, 4, 8, 12}


@pytest.mark.parametrize(("gpu", "threads"), [(True, 2), (False, 1)])
def test_a_gpu_has_a_thread_that_gathers_while_another_runs(
    monkeypatch: pytest.MonkeyPatch, models_dir: Path, gpu: bool, threads: int
) -> None:
    monkeypatch.setattr(sessions, "on_gpu", lambda device: gpu)
    settings = Settings(models_dir=models_dir, device="cpu:1", threads=1, max_batch=2)
    found = sessions.open_sessions(settings, models_dir / "tiny" / "1")
    assert len(found.workers) == threads
    assert len(set(found.workers)) == 1


def test_a_cpu_runs_batches_as_they_come(monkeypatch: pytest.MonkeyPatch, models_dir: Path) -> None:
    settings = Settings(models_dir=models_dir, device="cpu:1", threads=1, max_batch=4)
    found = sessions.open_sessions(settings, models_dir / "tiny" / "1")
    sizes = sizes_run(monkeypatch)
    found.first.run(photos(3))
    assert sizes == [3]


def test_what_runs_elsewhere_than_asked_is_told(models_dir: Path) -> None:
    """Where single operators fall back: the session itself still says the provider first."""
    path = models_dir / "tiny" / "1" / "model.onnx"
    options = ort.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    check_placement(session, path, "cpu", {"CPUExecutionProvider"})
    with pytest.raises(ProviderError, match=r"all of it on cuda:0, got \d+ MatMul on CPUExecution"):
        check_placement(session, path, "cuda:0", {"CUDAExecutionProvider"})
