"""Matching: the formula, what a bank does, and that it is exported and served like any other."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from service.bundle import read_bundle
from service.classifier import Classifier
from service.doubts import Doubts
from service.familiarity import (
    BACKGROUND_TEMPERATURE,
    BACKGROUND_WEIGHT,
    TEMPERATURE,
    Familiarity,
)
from service.preprocess import Preprocessing
from tests.training_runs import ConfigMaker, DatasetMaker, run
from training import checkpoint
from training.backbones import build_backbone
from training.bank import choose_bank
from training.calibrate import calibrate_run
from training.config import MatchingConfig
from training.data.background import open_background, shipped_background
from training.data.photos import read_photos
from training.errors import ConfigError, DataError
from training.export import export_run
from training.methods.matching import Matching
from training.outcome import measure
from training.records import LITE_GROUPS, load_config, parse_config

LABELS = torch.tensor([0, 0, 1, 1, 1, 2, 2, 0, 1, 2])


def write_pictures(folder: Path, count: int) -> Path:
    """Noise, in a folder of a folder."""
    (folder / "noise").mkdir(parents=True)
    for n in range(count):
        pixels = np.random.default_rng(n).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "noise" / f"{n}.png")
    return folder


def filled(width: int = 6, features: int = 8) -> tuple[Matching, Tensor]:
    head = Matching(features, 3, MatchingConfig(width=width, temperature=0.2)).double().eval()
    known = torch.randn(10, features, dtype=torch.float64) * 3 + 1
    head.fill_bank(known, LABELS)
    return head, known


def test_an_answer_is_the_weighted_vote_of_the_bank() -> None:
    head, known = filled()
    photos = torch.randn(4, 8, dtype=torch.float64)
    answer = head.answer(photos, "bank")
    z, keys = head.represent(photos), head.represent(known)
    for i in range(4):
        weights = [math.exp(float(z[i] @ key) / 0.2) for key in keys]
        for k in range(3):
            mass = sum(w for w, y in zip(weights, LABELS, strict=True) if y == k) / sum(weights)
            assert float(answer.logits[i, k].detach().exp()) == pytest.approx(mass)
        assert answer.bank_weights is not None
        torch.testing.assert_close(
            answer.bank_weights[i].detach(), torch.tensor(weights).double() / sum(weights)
        )
    torch.testing.assert_close(answer.embedding.norm(dim=1), torch.ones(4, dtype=torch.float64))


def test_likeness_is_that_of_standardised_features_where_all_components_are_kept() -> None:
    head, known = filled(width=8)
    standard = (known - known.mean(dim=0)) / (known.std(dim=0, correction=0) + 1e-3)
    expected = F.normalize(standard, dim=1) @ F.normalize(standard, dim=1).T
    torch.testing.assert_close(head.bank_keys @ head.bank_keys.T, expected)
    fewer, _ = filled(width=3)
    assert fewer.bank_keys.shape == (10, 3)


def test_the_components_kept_are_those_of_most_variance() -> None:
    known = torch.randn(50, 4)
    known[:, 1] = known[:, 0] + 0.05 * torch.randn(50)  # which count twice
    head = Matching(4, 2, MatchingConfig(width=1))
    head.fill_bank(known, torch.arange(50) % 2)
    direction = F.normalize(head.components[:, 0].abs(), dim=0)
    assert direction[:2].norm() > 0.9


def test_a_photo_of_the_bank_is_answered_by_itself_and_a_new_item_counts_at_once() -> None:
    head, known = filled()
    assert (head.answer(known, "bank").logits.argmax(dim=1) == LABELS).all()
    stranger = known.mean(dim=0, keepdim=True) + 5 * torch.randn(1, 8, dtype=torch.float64)
    before = int(head.answer(stranger, "bank").logits.argmax())
    wanted = (before + 1) % 3
    keys = torch.cat([head.bank_keys, head.represent(stranger)])
    values = torch.cat([head.bank_values, F.one_hot(torch.tensor([wanted]), 3).double()])
    after = head.answer_from(stranger, keys, values)
    assert int(after.logits.argmax()) == wanted
    assert after.bank_weights is not None
    assert int(after.bank_weights.argmax()) == len(known)


def test_photos_do_not_see_each_other() -> None:
    head, _ = filled()
    photos = torch.randn(5, 8, dtype=torch.float64)
    together = head.answer(photos, "bank").logits
    for context in ("bank", "batch"):
        one = head.answer(photos[2:3], context).logits  # type: ignore[arg-type]
        torch.testing.assert_close(one, together[2:3])
    assert head.answer(photos, "lone").logits.std() == 0  # without a bank it knows nothing


def test_a_background_says_what_is_foreign_and_nothing_else() -> None:
    head, known = filled()
    photos, others = torch.randn(4, 8).double(), torch.randn(5, 8).double() - 4
    before = head.answer(photos, "bank")
    head.fill_background(others)
    answer = head.answer(photos, "bank")
    assert torch.equal(answer.logits, before.logits)
    assert answer.familiarity is not None
    z = head.represent(photos)
    for i in range(4):
        near = [
            np.mean([math.exp((float(z[i] @ key) - 1) / 0.08) for key in head.represent(items)])
            for items in (known, others)
        ]
        expected = 0.08 * math.log(near[0]) - 0.7 * 0.08 * math.log(near[1])
        assert float(answer.familiarity[i]) == pytest.approx(expected)
    # Pictures that join it only add to it.
    joined = torch.cat([head.background.keys, head.represent(torch.randn(50, 8).double())])
    more = head.answer_from(photos, head.bank_keys, head.bank_values, joined).familiarity
    assert more is not None
    assert (more < answer.familiarity).all()
    # What is like the background is less familiar than it was beside what is not.
    both = head.answer(torch.cat([known[:1], others[:1]]), "bank").familiarity
    assert both is not None
    assert float(both[0] - both[1]) > 0.1


def test_a_background_is_kept_with_the_weights_and_old_weights_have_none() -> None:
    head, _ = filled()
    head.fill_background(torch.randn(5, 8).double())
    again, _ = filled()
    again.load_state_dict(head.state_dict())
    assert torch.equal(again.background.keys, head.background.keys)
    old = {name: value for name, value in head.state_dict().items() if "background" not in name}
    again.load_state_dict(old)
    assert again.background.keys.shape == (0, 6)


def test_the_loss_leaves_each_photo_out_of_its_own_vote() -> None:
    head = Matching(8, 3, MatchingConfig(temperature=0.5)).double()
    x = torch.randn(10, 8, dtype=torch.float64)
    z = F.normalize((x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt(), dim=1)
    total = 0.0
    for i in range(10):
        weights = {j: math.exp(float(z[i] @ z[j]) / 0.5) for j in range(10) if j != i}
        own = sum(w for j, w in weights.items() if LABELS[j] == LABELS[i])
        total -= math.log(own / sum(weights.values()))
    assert float(head.losses(x, LABELS)["loss"].detach()) == pytest.approx(total / 10)


def test_all_is_every_photo_superclass_by_superclass() -> None:
    labels = np.array([2, 0, 1, 0, 2])
    rows = choose_bank(np.zeros((5, 1), dtype=np.float32), labels, 3, "all")
    assert rows.tolist() == [1, 3, 2, 0, 4]


@pytest.mark.parametrize(
    ("worded", "background"), [(False, False), (False, True), (True, False), (True, True)]
)
def test_it_is_trained_exported_and_served(
    worded: bool,
    background: bool,
    make_dataset: DatasetMaker,
    tiny_config: ConfigMaker,
    tmp_path: Path,
) -> None:
    root = make_dataset()
    px = 64 if worded else 16  # of 16 pixels ImageNet's network makes nothing
    spec: dict[str, Any] = {"width": 16}
    if worded:
        names = read_photos(root).superclasses
        lists = "\n".join(f'{name} = ["{name} bottle", "{name} lamp"]' for name in names)
        (tmp_path / "words.toml").write_text(f"[superclasses]\n{lists}\n")
        spec |= {"words": str(tmp_path / "words.toml"), "like_words": 0.6}
    if background:
        spec["background"] = str(write_pictures(tmp_path / "others", 7))
    config = tiny_config(
        method="matching",
        data={"px": px, "cache_px": px},
        backbone={"frozen_groups": 18, "pretrained": worded},
        matching=spec,
        bank={"selection": "all"},
        train={"epochs": 0.1},
    )
    state = run(config, read_photos(root), tmp_path / "run")["model"]
    assert len(state["bank"]) == 24
    assert state["weights"]["head.bank_values"].sum(dim=0).tolist() == [8, 8, 8]
    outcome = measure(tmp_path / "run", root, "test", None, "cpu")
    assert (outcome.predicted == outcome.labels).all()
    calibrate_run(tmp_path / "run", root, 0.05, None, "cpu")
    export_run(tmp_path / "run", root, tmp_path / "models" / "tiny" / "1", None, None, None, "cpu")
    bundle = read_bundle(tmp_path / "models" / "tiny" / "1")
    manifest = bundle.manifest
    assert manifest.bank.selection == "all"
    assert manifest.provenance.config["method"] == "matching"
    figures: dict[str, Any] = json.loads((bundle.path / "manifest.json").read_text())
    assert len(figures["bank"]["items"]) == 24
    pixels = torch.randint(0, 256, (3, px, px, 3), dtype=torch.uint8).numpy()
    answer = Classifier(bundle, variant="fp32").run(pixels)
    model, _ = checkpoint.load_model(tmp_path / "run")
    with torch.no_grad(), model.full_precision():
        expected = model.answer(torch.from_numpy(pixels))
    np.testing.assert_allclose(answer.embedding, expected.embedding.numpy(), atol=2e-4)
    assert expected.bank_weights is not None
    assert answer.references[:, 0].tolist() == expected.bank_weights.argmax(dim=1).tolist()
    np.testing.assert_allclose(
        answer.probabilities,
        (expected.logits / manifest.calibration.temperature).softmax(dim=1).numpy(),
        atol=1e-3,
    )
    # How familiar photos are is what `service.familiarity` makes of the embeddings.
    keys = state["weights"]["head.bank_keys"].numpy()
    others = state["weights"]["head.background.keys"].numpy()
    wide = BACKGROUND_TEMPERATURE if background else TEMPERATURE
    familiarity = Familiarity(keys, wide).of(answer.embedding)
    if background:
        assert others.shape == (7, 16)
        familiarity -= BACKGROUND_WEIGHT * Familiarity(others, wide).of(answer.embedding)
    assert answer.familiarity is not None
    np.testing.assert_allclose(answer.familiarity, familiarity, atol=1e-5)
    assert manifest.familiarity is not None
    assert manifest.familiarity.file is None
    assert manifest.familiarity.temperature == wide
    assert manifest.familiarity.statistic.endswith("_less_background") == background
    assert set(Doubts({"unfamiliar": 1.0}).of_answers(answer)) != {()}
    # Quantising ends where the head begins.
    stored = {one.name for one in onnx.load(bundle.model_path("int8")).graph.initializer}
    assert "head.components" in stored
    assert not [name for name in stored if name.startswith("head") and "quantized" in name]
    assert len(manifest.guide) == (6 if worded else 0)
    if expected.things is not None:
        assert answer.things is not None
        assert answer.thing_weights is not None
        counted, places = expected.things.topk(3, dim=1)
        np.testing.assert_allclose(answer.thing_weights, counted.numpy(), atol=1e-4)
        assert answer.things[:, 0].tolist() == places[:, 0].tolist()
        assert {manifest.guide[place].name.split()[1] for place in answer.things[0]} <= {
            "bottle",
            "lamp",
        }
    # The bank is an input: of one superclass alone, that one is answered.
    session = ort.InferenceSession(str(bundle.model_path("fp32")))
    keys = keys[:8]
    values = np.tile(np.eye(3, dtype=np.float32)[[1]], (8, 1))
    (probabilities,) = session.run(
        ["probabilities"], {"images": pixels, "bank_keys": keys, "bank_values": values}
    )
    if not worded:  # words have a say of their own
        assert (probabilities.argmax(axis=1) == 1).all()
    if background:  # so is that: of the photos themselves, nothing is familiar any more
        (told,) = session.run(
            ["familiarity"], {"images": pixels, "background_keys": answer.embedding}
        )
        assert (told < answer.familiarity - 0.05).all()


def test_a_folder_without_pictures_is_refused_before_anything_is_trained(
    make_dataset: DatasetMaker, tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    folder = write_pictures(tmp_path / "others", 4)
    (folder / "notes.txt").write_text("no picture")
    for given, told in (
        (tmp_path / "nowhere", "background: expected a folder of pictures, got"),
        (folder, r"background: expected 5 pictures or more below .*, got 4 that decode"),
    ):
        config = tiny_config(method="matching", matching={"background": str(given)})
        with pytest.raises(DataError, match=told):
            run(config, read_photos(make_dataset()), tmp_path / f"run-{given.name}")
    with pytest.raises(ConfigError, match=r"matching\.background: expected method = \"matching\""):
        parse_config({"name": "x", "method": "sclre", "matching": {"background": str(folder)}})


def test_pictures_of_a_background_that_cannot_be_used_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_pictures(tmp_path / "others", 6)
    (folder / "bad.JPG").write_bytes(b"no picture")
    store = open_background(folder, Preprocessing(height=32, width=32))
    assert [photo.path for photo in store.photos] == [f"noise/{n}.png" for n in range(6)]
    assert store.pixels.shape == (6, 32, 32, 3)
    assert "background: left out, since they cannot be used: bad.JPG (" in capsys.readouterr().out
    (folder / "bad.JPG").rename(folder / "m\udcfcll.jpg")
    open_background(folder, Preprocessing(height=32, width=32))
    assert r"m\xfcll.jpg (its name is not in UTF-8)" in capsys.readouterr().out
    for n in range(4):
        (folder / f"bad-{n}.png").write_bytes(b"no picture")
    open_background(folder, Preprocessing(height=32, width=32))
    assert capsys.readouterr().out.endswith("; and 2 more\n")


def test_the_shipped_background_is_for_the_network_that_made_it() -> None:
    record = load_config("refuse-words")
    assert record.matching.background == "pictures"
    assert load_config("refuse-matching").matching.background == "pictures"
    backbone, width, _ = build_backbone("efficientnet_lite0", pretrained=False)
    assert len(cast(Any, backbone).groups()) == LITE_GROUPS
    features = shipped_background()
    assert features.shape == (363, width)
    assert features.dtype == torch.float32
    for change, told in (
        ("backbone.name=efficientnet_lite1", r"got backbone\.name = efficientnet_lite1;"),
        ("data.px=224", r"got data\.px = 224;"),
        ("backbone.frozen_groups=3", r"got backbone\.frozen_groups = 3;"),
    ):
        expected = rf"^matching\.background: 'pictures' is what .*{told} name a folder"
        with pytest.raises(ConfigError, match=expected):
            load_config("refuse-words", [change])
        assert load_config("refuse-words", [change, "matching.background="])


def test_a_run_takes_the_shipped_background_without_a_picture(
    make_dataset: DatasetMaker, tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    config = tiny_config(
        method="matching",
        data={"px": 256, "cache_px": 256},
        backbone={"frozen_groups": 18, "pretrained": True},
        matching={"width": 16, "background": "pictures"},
        bank={"selection": "all"},
        train={"epochs": 0.1},
    )
    run(config, read_photos(make_dataset()), tmp_path / "run")
    model, _ = checkpoint.load_model(tmp_path / "run")
    assert isinstance(model.head, Matching)
    expected = model.head.represent(shipped_background())
    torch.testing.assert_close(model.head.background.keys, expected)
