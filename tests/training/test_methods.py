"""What SCLRE is compared with: each loss against another's or a naive one, each method trained."""

from __future__ import annotations

import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.training_runs import ConfigMaker, DatasetMaker, assert_identical, run, signal_in_step
from training import checkpoint
from training.config import ContrastiveConfig
from training.data.photos import PhotoSet, read_photos
from training.errors import RunError
from training.fit import Interrupted, fit
from training.losses import momentum_contrast, supervised_contrastive
from training.methods.contrastive import Contrastive
from training.methods.george import George
from training.methods.moco import MoCo, follow
from training.model import build_model
from training.outcome import measure
from training.subclasses import find_subclasses

SMALL = ContrastiveConfig(hidden=12, width=6, queue=10, momentum=0.5)
SECTIONS: dict[str, dict[str, Any]] = {
    "supcon": {},
    "simclr": {},
    "moco": {"contrastive": {"hidden": 16, "width": 8, "queue": 20}},
}


def sphere(n: int, d: int = 5) -> Tensor:
    return F.normalize(torch.randn(n, d, dtype=torch.float64), dim=1)


def naive_supcon(z: Tensor, labels: Tensor, temperature: float) -> float:
    """Photo by photo, as the formula reads."""
    means = []
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        scores = {a: math.exp(float(z[i] @ z[a]) / temperature) for a in others}
        positives = [p for p in others if labels[p] == labels[i]]
        if positives:
            terms = [-math.log(scores[p] / sum(scores.values())) for p in positives]
            means.append(sum(terms) / len(terms))
    return sum(means) / len(means) if means else 0.0


@settings(deadline=None, max_examples=40)
@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    temperature=st.sampled_from([0.1, 0.5, 2.0]),
)
def test_supervised_contrastive_is_the_formula(labels: list[int], temperature: float) -> None:
    torch.manual_seed(0)
    z, y = sphere(len(labels)), torch.tensor(labels)
    got = float(supervised_contrastive(z, y, temperature))
    assert got == pytest.approx(naive_supcon(z, y, temperature), abs=1e-9)


@pytest.mark.filterwarnings("default")
def test_supervised_contrastive_is_the_librarys_supcon_and_over_photos_its_nt_xent() -> None:
    from pytorch_metric_learning.losses import NTXentLoss, SupConLoss

    z, y = sphere(12), torch.tensor([0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1])
    library = float(SupConLoss(temperature=0.2)(z, y))
    assert float(supervised_contrastive(z, y, 0.2)) == pytest.approx(library, abs=1e-6)
    photos = torch.arange(6).repeat(2)
    library = float(NTXentLoss(temperature=0.2)(z, photos))
    assert float(supervised_contrastive(z, photos, 0.2)) == pytest.approx(library, abs=1e-6)


def test_losses_and_gradients_are_finite_where_nothing_is_positive_or_all_is() -> None:
    for labels in ([0, 1, 2], [1, 1, 1], [0]):
        z = sphere(len(labels)).requires_grad_()
        loss = supervised_contrastive(z, torch.tensor(labels), 1e-2)
        loss.backward()
        assert z.grad is not None
        assert torch.isfinite(loss)
        assert torch.isfinite(z.grad).all()


def test_momentum_contrast_is_the_formula() -> None:
    q, k, queue = sphere(4), sphere(4), sphere(7)
    total = 0.0
    for i in range(4):
        own = math.exp(float(q[i] @ k[i]) / 0.3)
        total -= math.log(own / (own + sum(math.exp(float(q[i] @ m) / 0.3) for m in queue)))
    assert float(momentum_contrast(q, k, queue, 0.3)) == pytest.approx(total / 4)


def test_the_classifier_learns_beside_the_features_and_takes_no_part_in_them() -> None:
    y = torch.tensor([0, 1, 2, 0]).repeat(2)
    for head in (Contrastive(20, 3, SMALL, "superclass"), Contrastive(20, 3, SMALL, "photo")):
        x = torch.randn(8, 20, requires_grad=True)
        parts = head.losses(x, y)
        assert torch.allclose(parts["loss"], parts["contrastive"] + parts["cross_entropy"])
        (with_it,) = torch.autograd.grad(parts["loss"], x, retain_graph=True)
        z = F.normalize(head.projection(x), dim=1)
        photos = torch.arange(4).repeat(2)
        same = y if head.positives == "superclass" else photos
        (alone,) = torch.autograd.grad(supervised_contrastive(z, same, SMALL.temperature), x)
        torch.testing.assert_close(with_it, alone)
        parts["loss"].backward()
        assert head.classifier.weight.grad is not None


def test_simclr_is_blind_to_superclasses_and_supcon_is_not() -> None:
    x = torch.randn(8, 20)
    one, other = torch.tensor([0, 1, 2, 0]).repeat(2), torch.tensor([2, 2, 1, 0]).repeat(2)
    simclr, supcon = (Contrastive(20, 3, SMALL, p) for p in ("photo", "superclass"))  # type: ignore[arg-type]
    assert simclr.losses(x, one)["contrastive"] == simclr.losses(x, other)["contrastive"]
    assert supcon.losses(x, one)["contrastive"] != supcon.losses(x, other)["contrastive"]


def test_mocos_queue_takes_the_newest_keys_in_and_lets_the_oldest_go() -> None:
    head, before = MoCo(20, 3, SMALL), None
    y = torch.tensor([0, 1, 2, 0]).repeat(2)
    for _ in range(4):
        before = head.queue.clone()
        x = torch.randn(8, 20)
        loss = head.losses(x, y)["loss"]
        loss.backward()
        torch.testing.assert_close(head.queue[4:], before[:6])
        keys = F.normalize(head.slow_projection(x[4:]), dim=1)
        torch.testing.assert_close(head.queue[:4], keys)
    assert not head.queue.requires_grad
    assert all(p.grad is None for p in head.slow_projection.parameters())


def test_the_following_network_goes_its_share_of_the_way_statistics_included() -> None:
    slow, fast = (torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3)) for _ in "ab")
    fast.train()(torch.randn(9, 3))
    before = {name: value.clone() for name, value in slow.state_dict().items()}
    follow(slow, fast, 0.75)
    for name, value in slow.state_dict().items():
        theirs = fast.state_dict()[name]
        expected = 0.75 * before[name] + 0.25 * theirs if value.is_floating_point() else theirs
        torch.testing.assert_close(value, expected)


def test_mocos_keys_come_from_the_network_that_follows_and_gradients_do_not_reach_it(
    tiny_config: ConfigMaker,
) -> None:
    model = build_model(tiny_config(method="moco", **SECTIONS["moco"]), 3).train()
    assert model.slow is not None
    assert not model.slow.training
    pixels = torch.randint(0, 256, (8, 16, 16, 3), dtype=torch.uint8)
    before = [p.clone() for p in model.slow.parameters()]
    with torch.no_grad():
        for p in model.backbone.parameters():
            p.add_(0.01)
    model.losses(pixels, torch.tensor([0, 1, 2, 0]).repeat(2))["loss"].backward()
    assert all(p.grad is None for p in model.slow.parameters())
    assert any(p.grad is not None for p in model.backbone.parameters())
    moved = [not torch.equal(a, b) for a, b in zip(before, model.slow.parameters(), strict=True)]
    assert all(moved)


def test_group_dro_weighs_the_group_that_fares_worst_most() -> None:
    torch.manual_seed(0)
    head = George(4, 2, most=3, step_size=0.5)
    x, groups = torch.randn(12, 4), torch.tensor([0, 0, 2, 2, 3, 3, 5, 5, 5, 0, 2, 3])
    logits = head.classifier(x).detach()
    each = F.cross_entropy(logits, groups // 3, reduction="none")
    means = {int(g): each[groups == g].mean() for g in groups.unique()}
    weights = {g: math.exp(0.5 * float(loss)) for g, loss in means.items()}
    total = sum(weights.values())
    expected = sum(weights[g] / total * float(loss) for g, loss in means.items())
    got = head.losses(x, groups)
    assert float(got["loss"].detach()) == pytest.approx(expected, abs=1e-5)
    assert float(got["worst"]) == pytest.approx(max(float(m) for m in means.values()), abs=1e-5)
    worst = max(means, key=lambda g: float(means[g]))
    for _ in range(20):
        head.losses(x, groups)
    assert int(head.log_weights.argmax()) == worst
    assert (head.log_weights[[1, 4]] == 0).all()  # groups that nothing is in


def test_subclasses_are_found_where_they_are() -> None:
    random = np.random.default_rng(0)
    centres = random.normal(0, 10, (5, 8))
    true = np.repeat(np.arange(5), 40)
    features = (centres[true] + random.normal(0, 1, (200, 8))).astype(np.float32)
    labels = np.where(true < 2, 0, 1)
    found = find_subclasses(features, labels, most=6)
    assert (found // 6 == labels).all()
    for cluster in range(5):  # one number for each, and each its own
        assert len(np.unique(found[true == cluster])) == 1
    assert len(np.unique(found)) == 5


def test_subclasses_of_few_photos_and_of_equal_ones() -> None:
    labels = np.array([0, 0, 1, 1, 1, 1, 2])
    features = np.concatenate([np.eye(2, 3), np.ones((4, 3)), np.zeros((1, 3))]).astype(np.float32)
    found = find_subclasses(features, labels, most=4)
    assert (found // 4 == labels).all()
    assert len(np.unique(found)) == 3


@pytest.fixture
def photos(make_dataset: DatasetMaker) -> PhotoSet:
    return read_photos(make_dataset(train=12))


@pytest.mark.parametrize("method", sorted(SECTIONS))
def test_each_method_learns_answers_and_goes_on_where_it_was_stopped(
    photos: PhotoSet, tiny_config: ConfigMaker, tmp_path: Path, method: str
) -> None:
    sections = {"train": {"ema": 0.5, "epochs": 2}, **SECTIONS[method]}
    config = tiny_config(method=method, **sections)
    whole = run(config, photos, tmp_path / "whole")
    with signal_in_step(3, signal.SIGTERM), pytest.raises(Interrupted):
        run(config, photos, tmp_path / "stopped")
    resumed = run(config, photos, tmp_path / "stopped", resume=True)
    assert_identical(resumed, whole)
    assert whole["model"]["bank"] == []
    outcome = measure(tmp_path / "whole", photos.root, "test", None, "cpu")
    assert not outcome.has_bank
    assert outcome.other_contexts == {}
    assert outcome.logits.shape == (6, 3)


def test_what_a_run_has_learned_another_one_begins_with(
    photos: PhotoSet, tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    run(tiny_config(method="simclr", train={"epochs": 1}), photos, tmp_path / "first")
    weights = {"weights": str(tmp_path / "first")}
    tuned = tiny_config(method="cross_entropy", backbone=weights)
    learned, _ = checkpoint.load_model(tmp_path / "first")
    begun = checkpoint.begin_model(tuned, 3)
    assert_identical(dict(begun.backbone.state_dict()), dict(learned.backbone.state_dict()))
    moco = checkpoint.begin_model(tiny_config(method="moco", backbone=weights), 3)
    assert moco.slow is not None
    assert_identical(dict(moco.slow.state_dict()), dict(learned.backbone.state_dict()))
    other = tiny_config(backbone={"name": "resnet18", "stem": "cifar", **weights})
    with pytest.raises(
        RunError, match=r"expected a run with resnet18 and its cifar stem, got .*fir"
    ):
        checkpoint.begin_model(other, 3)


def test_george_learns_the_clusters_of_its_first_stage_and_keeps_them(
    photos: PhotoSet, tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    run(tiny_config(method="cross_entropy"), photos, tmp_path / "first")
    george = {"first_stage": str(tmp_path / "first"), "most_clusters": 3}
    config = tiny_config(method="george", george=george)
    whole = run(config, photos, tmp_path / "second")
    found = np.load(tmp_path / "second" / checkpoint.SUBCLASSES)
    owner = [photos.superclasses.index(photo.superclass) for photo in photos.split("train")]
    assert (found // 3 == owner).all()
    assert len(np.unique(found)) > 3
    weights = whole["checkpoint"]["model"]["head.log_weights"]
    assert set(np.flatnonzero(weights.numpy())) <= set(found)
    assert (weights != 0).any()
    with signal_in_step(3, signal.SIGTERM), pytest.raises(Interrupted):
        run(config, photos, tmp_path / "stopped")
    (tmp_path / "first" / checkpoint.MODEL).unlink()  # no longer needed
    assert_identical(run(config, photos, tmp_path / "stopped", resume=True), whole)


def test_george_without_a_first_stage_or_with_one_of_other_superclasses_is_refused(
    photos: PhotoSet, tiny_config: ConfigMaker, make_dataset: DatasetMaker, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"george\.first_stage: expected a finished run of cross_en"):
        fit(tiny_config(method="george"), photos, tmp_path, device="cpu")
    root = make_dataset("two")
    table = (root / "labels.csv").read_text().replace(",amber,", ",moss,")
    (root / "labels.csv").write_text(table)
    run(tiny_config(method="cross_entropy"), read_photos(root), tmp_path / "first")
    config = tiny_config(method="george", george={"first_stage": str(tmp_path / "first")})
    with pytest.raises(RunError, match=r"knows \['cobalt', 'moss'\], and the photos are of \['amb"):
        fit(config, photos, tmp_path, device="cpu")


@pytest.mark.parametrize("sclre", [{"attention": False}, {"alpha": 0.0}, {"anchors": "reference"}])
def test_ablations_of_sclre_train_and_answer(
    photos: PhotoSet, tiny_config: ConfigMaker, tmp_path: Path, sclre: dict[str, Any]
) -> None:
    run(tiny_config(sclre=sclre), photos, tmp_path / "run")
    outcome = measure(tmp_path / "run", photos.root, "test", None, "cpu")
    assert outcome.has_bank == sclre.get("attention", True)
    model, state = checkpoint.load_model(tmp_path / "run")
    assert bool(state["bank"]) == outcome.has_bank
    x = torch.randn(5, 1280)
    if not outcome.has_bank:  # nothing depends on who is beside whom
        for context in ("bank", "batch", "lone"):
            logits = model.method.answer(x, context).logits  # type: ignore[arg-type]
            torch.testing.assert_close(logits[:2], model.method.answer(x[:2], "bank").logits)
