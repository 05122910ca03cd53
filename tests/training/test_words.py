"""A sorting guide's words, by way of ImageNet's classes."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import Ridge

from tests.training_runs import ConfigMaker
from training import text
from training.backbones import build_backbone
from training.backbones.efficientnet_lite import pretrained_classifier
from training.config import MatchingConfig
from training.data.superclass_map import MAPS, read_map
from training.errors import ConfigError, DataError
from training.guide import with_words
from training.methods.matching import Matching
from training.text import embed
from training.votes import LIKE_WORDS
from training.words import (
    RIDGE,
    WORDS,
    blended,
    doubted,
    guide_warning,
    make_guide,
    read_words,
    teach_words,
)

BINS = ("organic", "recyclable")
REFUSE = ("hazardous", "organic", "recyclable", "residual")
CIFAR = ("artifacts", "mammals", "natures", "non-mammals")
TEXT = '[superclasses]\nrecyclable = ["glass bottle"]\norganic = ["fruit", "orange peel"]\n'
NAMES = (WORDS / "imagenet.txt").read_text(encoding="utf-8").splitlines()


def write(folder: Path, text: str) -> str:
    file = folder / "guide.toml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_each_thing_is_of_its_bin(tmp_path: Path) -> None:
    words = read_words(write(tmp_path, TEXT), BINS)
    assert words.things == ("fruit", "orange peel", "glass bottle")
    assert words.superclass.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("[superclasses]", "[bins]", r"expected a table \[superclasses\]"),
        ("[superclasses]", "[superclasses", "is not TOML"),
        ('"fruit"', "954", 'names such as "paint can" for organic, got .954, .orange'),
        ('"fruit"', '" "', 'names such as "paint can" for organic'),
        ('["glass bottle"]', "[]", 'names such as "paint can" for recyclable, got ..$'),
        ('["glass bottle"]', '"glass bottle"', "for recyclable, got 'glass bottle'"),
        ("organic", "compost", "the data, organic, recyclable, .* got recyclable, compost; name"),
        ('"fruit"', '"orange peel"', "expected each thing once, got 'orange peel' 2 times"),
        ('"fruit"', '"glass bottle"', "expected each thing once, got 'glass bottle' 2 times"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(
    tmp_path: Path, before: str, after: str, told: str
) -> None:
    with pytest.raises(DataError, match=told):
        read_words(write(tmp_path, TEXT.replace(before, after, 1)), BINS)


def test_an_unknown_file_names_the_known_ones() -> None:
    with pytest.raises(DataError, match="one of cifar100-4, refuse, refuse-other, got 'garden'"):
        read_words("garden", BINS)


@pytest.mark.parametrize("name", sorted(file.stem for file in WORDS.glob("*.toml")))
def test_the_shipped_words_have_every_bin_and_nothing_twice(name: str) -> None:
    words = read_words(name, CIFAR if name == "cifar100-4" else REFUSE)
    assert set(words.superclass.tolist()) == {0, 1, 2, 3}
    assert len(set(words.things)) == len(words.things)


def test_the_words_for_cifar_name_none_of_its_subclasses() -> None:
    subclasses = [name.replace("_", " ") for name in read_map(MAPS / "cifar100-4.toml")]
    told = " | ".join(read_words("cifar100-4", CIFAR).things)
    assert [name for name in subclasses if re.search(rf"\b{name}s?\b", told)] == []


def test_imagenets_names_are_in_the_order_of_its_classifiers() -> None:
    assert len(NAMES) == 1000
    assert [NAMES[i] for i in (0, 440, 720, 954)] == [
        "tench",
        "beer bottle",
        "pill bottle",
        "banana",
    ]


def test_texts_of_like_meaning_are_near_each_other() -> None:
    drink, bottle, dog = embed(["a drink", "beer bottle", "a shaggy dog"])
    assert drink.shape == (384,)
    assert float(bottle.norm()) == pytest.approx(1.0)
    assert float(drink @ bottle) > float(drink @ dog) + 0.1


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite012"])
def test_a_photo_of_what_no_entry_names_is_told_the_bin_of_what_is_called_alike(
    name: str, tmp_path: Path
) -> None:
    parts = ["efficientnet_lite0"] if name[-1] == "0" else [name[:-3] + n for n in "012"]
    weight = torch.cat([pretrained_classifier(part)[0] for part in parts], dim=1)
    torch.manual_seed(0)
    known, labels = torch.rand(20, weight.shape[1]), torch.arange(20) % 2
    guide = make_guide(read_words(write(tmp_path, TEXT), BINS), name)
    guide.fit(known, labels)
    for called, k in (("banana", 0), ("lemon", 0), ("wine bottle", 1), ("water jug", 1)):
        photo = weight[NAMES.index(called)][None]  # what that class looks for
        said = guide(known.mean(dim=0) + 10 * photo)
        assert int(said.probabilities.argmax()) == k, called
        assert float(said.probabilities.sum()) == pytest.approx(1.0)
        # Each thing has a part of its own superclass: fruit and orange peel, and the bottle.
        things, expected = said.things[0], said.probabilities[0]
        torch.testing.assert_close(torch.stack([things[:2].sum(), things[2]]), expected)
        if called == "lemon":
            assert int(things.argmax()) == 0  # a fruit, and no peel
    assert (guide(known).probabilities.mean(dim=0) > 0.1).all()  # no bin is ruled out
    assert guide.named(BINS)[1:] == [
        {"name": "orange peel", "superclass": "organic"},
        {"name": "glass bottle", "superclass": "recyclable"},
    ]


@pytest.mark.parametrize(
    ("organic", "recyclable", "right"),
    [
        ('"fruit", "orange peel"', '"glass bottle", "tin can"', True),
        ('"glass bottle", "tin can"', '"fruit", "orange peel"', False),
    ],
)
def test_a_guide_that_says_nothing_is_told(
    organic: str, recyclable: str, right: bool, tmp_path: Path
) -> None:
    weight = pretrained_classifier("efficientnet_lite0")[0]
    classes = (
        "banana",
        "lemon",
        "orange",
        "cauliflower",
        "wine bottle",
        "beer bottle",
        "water jug",
    )
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    torch.manual_seed(0)
    photos = 0.5 * torch.rand(7, weight.shape[1])
    photos += 10 * weight[[NAMES.index(one) for one in classes]]
    text = f"[superclasses]\norganic = [{organic}]\nrecyclable = [{recyclable}]\n"
    guide = make_guide(read_words(write(tmp_path, text), BINS), "efficientnet_lite0")
    guide.fit(photos, labels)
    warning = guide_warning(guide, photos, labels.numpy())
    if right:
        assert warning is None
    else:
        assert warning is not None
        assert "(balanced), and guessing about 50.0%" in warning


def test_how_a_thing_looks_is_foretold_from_its_name_by_ridge_regression(tmp_path: Path) -> None:
    """A superclass that most photos are of does not move what is usual."""
    words = read_words(write(tmp_path, TEXT), BINS)
    weight = pretrained_classifier("efficientnet_lite0")[0].double()
    fitted = Ridge(alpha=RIDGE).fit(embed(NAMES).double().numpy(), weight.numpy())
    looks = torch.from_numpy(fitted.predict(embed(words.things).double().numpy()))
    looks = F.normalize(looks - weight.mean(dim=0), dim=1)
    torch.manual_seed(1)
    features = torch.rand(30, weight.shape[1])
    labels = torch.tensor([0] * 25 + [1] * 5)

    def usual(x: torch.Tensor) -> torch.Tensor:
        return (x[:25].mean(dim=0) + x[25:].mean(dim=0)) / 2

    cosines = F.normalize(features.double(), dim=1) @ looks.T
    more = ((cosines - usual(cosines)) / 0.03).exp()
    said = torch.stack([more[:, :2].mean(dim=1), more[:, 2]], dim=1)
    said /= said.sum(dim=1, keepdim=True)
    expected = said / usual(said) + 0.1
    expected /= expected.sum(dim=1, keepdim=True)
    guide = make_guide(words, "efficientnet_lite0")
    guide.fit(features, labels)
    got = guide(features).probabilities.double()
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
    # Whole numbers of a byte, as a bundle has them, say much the same.
    guide.to_whole_numbers()
    assert torch.equal(guide.looks, guide.looks.round())
    assert guide.looks.abs().max() == 127
    guide.fit(features, labels)
    torch.testing.assert_close(guide(features).probabilities.double(), expected, atol=0.01, rtol=0)


def test_without_a_language_model_it_is_told_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text._encoder.cache_clear()
    monkeypatch.setattr(text, "PACKAGE", "no_such_language_model")
    with pytest.raises(ConfigError, match=r"no_such_language_model is not installed: .*\[words\]"):
        embed(["battery"])


def test_imagenets_classifier_fits_the_features_of_its_backbone() -> None:
    backbone, width, _ = build_backbone("efficientnet_lite0")
    weight, bias = pretrained_classifier("efficientnet_lite0")
    assert weight.shape == (1000, width)
    assert bias.shape == (1000,)
    with pytest.raises(ConfigError, match=r"expected a backbone of .*lite0, .* got resnet18"):
        pretrained_classifier("resnet18")
    assert backbone is not None


def test_words_decide_where_no_bank_item_is_like_the_photo_and_only_there() -> None:
    head = Matching(4, 2, MatchingConfig(width=4, temperature=0.03)).double()
    known = torch.randn(40, 4, dtype=torch.float64)
    head.fill_bank(known, torch.arange(40) % 2)
    weights = head.log_weights(known)
    cosines = head.bank_keys @ head.bank_keys.T
    expected = torch.stack(
        [((cosines[:, k::2] - 1) / 0.03).exp().sum(dim=1).log() for k in range(2)], dim=1
    )
    torch.testing.assert_close(weights, expected)
    words = torch.tensor([[0.9, 0.1]], dtype=torch.float64)
    near, far = torch.tensor([[-5.0, 0.0]]).double(), torch.tensor([[-40.0, -35.0]]).double()
    assert (
        with_words(near, 0.03, words, LIKE_WORDS).argmax() == 1
    )  # an item that is the photo itself
    torch.testing.assert_close(with_words(far, 0.03, words, LIKE_WORDS), words, atol=1e-5, rtol=0)
    even = torch.full((1, 2), (LIKE_WORDS - 1) / 0.03).double()
    torch.testing.assert_close(
        with_words(even, 0.03, words, LIKE_WORDS), torch.tensor([[1.9 / 3, 1.1 / 3]]).double()
    )


def test_matching_with_words_attends_to_itself_where_the_bank_is_unlike(
    tmp_path: Path, tiny_config: ConfigMaker
) -> None:
    reference = write(tmp_path, TEXT)
    spec = {"width": 8, "temperature": 0.05, "words": reference, "like_words": 0.6}
    config = tiny_config(method="matching", matching=spec, backbone={"pretrained": True})
    head = Matching(1280, 2, config.matching).eval()
    teach_words(head, config, BINS)
    torch.manual_seed(2)
    known, labels = torch.rand(20, 1280), torch.arange(20) % 2
    head.fill_bank(known, labels)
    assert head.guide is not None
    photos = torch.cat([known[:4], torch.rand(4, 1280)])
    answer, said = head.answer(photos, "bank"), head.guide(photos)
    assert answer.bank_weights is not None
    assert answer.self_weight is not None
    assert answer.things is not None
    # In a bank of 20 the photo's own weight is less by as much as the bank's is.
    like = 0.6 + 0.05 * math.log(20 / 5136)
    expected = with_words(head.log_weights(photos), 0.05, said.probabilities, like)
    torch.testing.assert_close(answer.logits.exp(), expected)
    own = torch.log(answer.self_weight) - torch.log(answer.bank_weights.sum(dim=1))
    of_bank = head.log_weights(photos).logsumexp(dim=1)
    torch.testing.assert_close(own, (head.own_log_weight - of_bank).float())
    torch.testing.assert_close(answer.bank_weights.sum(dim=1) + answer.self_weight, torch.ones(8))
    torch.testing.assert_close(answer.things.sum(dim=1), answer.self_weight)
    assert (answer.self_weight[:4] < 0.01).all()  # photos that the bank has
    assert (answer.self_weight[4:] > answer.self_weight[:4].max()).all()
    lone = head.answer(photos, "lone").logits
    torch.testing.assert_close(lone.exp(), said.probabilities)
    # Weights bring their words along: nothing but the record is needed to load them.
    again = Matching(1280, 2, config.matching).eval()
    again.resize_bank(20)
    again.load_state_dict(head.state_dict())
    torch.testing.assert_close(again.answer(photos, "bank").logits, answer.logits)


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        (
            {"backbone": {"name": "efficientnet_lite012"}},
            "_lite2 with .*, got efficientnet_lite012",
        ),
        ({"backbone": {"name": "resnet18"}}, "got resnet18$"),
        ({"backbone": {"pretrained": False}}, "got efficientnet_lite0 with pretrained = false"),
        ({"backbone": {"weights": "runs/a"}}, "got efficientnet_lite0 with weights of runs/a"),
        ({"method": "sclre"}, "method = .matching., .*, got .sclre.; refuse-words"),
    ],
)
def test_words_are_for_matching_by_a_network_whose_classifier_is_known(
    tiny_config: ConfigMaker, sections: dict[str, Any], told: str
) -> None:
    record = {"method": "matching", "matching": {"words": "refuse"}, "backbone": {}} | sections
    record["backbone"] = {"pretrained": True} | record["backbone"]
    with pytest.raises(ConfigError, match=rf"^matching\.words: expected .*{told}"):
        tiny_config(**record)


def test_looks_of_several_networks_are_not_rounded(tmp_path: Path) -> None:
    guide = make_guide(read_words(write(tmp_path, TEXT), BINS), "efficientnet_lite012")
    with pytest.raises(ConfigError, match="of one network, got those of 3"):
        guide.to_whole_numbers()


def test_what_nothing_in_the_bank_is_like_is_doubted_and_answered_the_same() -> None:
    said = torch.tensor([[0.7, 0.2, 0.1]]).repeat(4, 1)
    got = doubted(said, torch.tensor([1.0, 0.5, 0.0, -0.3]))
    torch.testing.assert_close(got[0], said[0])
    torch.testing.assert_close(got[1], said[1] / 4 + 0.25)
    torch.testing.assert_close(got[2:], torch.full((2, 3), 1 / 3))


def test_a_trained_head_and_words_are_multiplied() -> None:
    head, words = torch.tensor([[0.5, 0.5], [1.0, 0.0]]), torch.tensor([[0.8, 0.2], [0.3, 0.7]])
    got = blended(head, words)
    torch.testing.assert_close(got[0], words[0])
    assert float(got[1, 0]) == pytest.approx(1.0)
