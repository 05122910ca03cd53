"""A sorting guide's words, by way of ImageNet's classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from training.backbones import build_backbone
from training.backbones.efficientnet_lite import pretrained_classifier
from training.config import MatchingConfig
from training.errors import ConfigError, DataError
from training.methods.matching import Matching
from training.words import LIKE_WORDS, WORDS, Guide, blended, read_words, with_words

BINS = ("organic", "recyclable")
TEXT = '[superclasses]\norganic = ["954 banana", "951 lemon"]\nrecyclable = ["440 beer bottle"]\n'


def write(folder: Path, text: str) -> str:
    file = folder / "guide.toml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_each_class_is_shared_by_its_bins(tmp_path: Path) -> None:
    text = TEXT.replace('["440 beer bottle"]', '["440 beer bottle", "951 lemon"]')
    words = read_words(write(tmp_path, text), BINS)
    assert words.shares.shape == (1000, 2)
    assert words.shares[954].tolist() == [1.0, 0.0]
    assert words.shares[951].tolist() == [0.5, 0.5]
    assert words.shares[440].tolist() == [0.0, 1.0]
    assert float(words.shares.sum()) == 3.0


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("[superclasses]", "[bins]", r"expected a table \[superclasses\]"),
        ("[superclasses]", "[superclasses", "is not TOML"),
        ("954 banana", "banana", 'classes such as "720 pill bottle"'),
        ('["440 beer bottle"]', "440", 'classes such as "720 pill bottle"'),
        ("954 banana", "1000 banana", "numbers below 1000, got 1000 in organic"),
        ("organic", "compost", "superclasses organic, recyclable, got compost, recyclable"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(
    tmp_path: Path, before: str, after: str, told: str
) -> None:
    with pytest.raises(DataError, match=told):
        read_words(write(tmp_path, TEXT.replace(before, after, 1)), BINS)


def test_an_unknown_file_names_the_known_ones() -> None:
    with pytest.raises(DataError, match="one of refuse, got 'garden'"):
        read_words("garden", BINS)


@pytest.mark.parametrize("name", sorted(file.stem for file in WORDS.glob("*.toml")))
def test_the_shipped_words_have_every_bin_and_no_class_twice_in_one(name: str) -> None:
    bins = ("hazardous", "organic", "recyclable", "residual")
    words = read_words(name, bins)
    assert (words.shares.sum(dim=0) > 0).all()
    for line in words.text.split("]"):
        classes = line.split('"')[1::2]
        assert len(classes) == len(set(classes))
        assert all(one.split()[0].isdigit() and len(one.split()) > 1 for one in classes)


def test_a_photo_of_a_named_class_is_told_its_bin_though_nothing_like_it_was_trained_on(
    tmp_path: Path,
) -> None:
    guide_words = read_words(write(tmp_path, TEXT), BINS)
    weight, _ = pretrained_classifier("efficientnet_lite0")
    known = torch.rand(20, weight.shape[1])
    guide = Guide(guide_words, "efficientnet_lite0", known)
    for number, k in ((954, 0), (440, 1)):
        photo = F.normalize(weight[number], dim=0)[None] * 60  # what that class looks for
        assert int(guide(photo).argmax()) == k
        assert float(guide(photo).sum()) == pytest.approx(1.0)
    assert (guide(known).mean(dim=0) > 0.1).all()  # no bin is ruled out


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
    assert with_words(near, 0.03, words).argmax() == 1  # an item that is the photo itself
    torch.testing.assert_close(with_words(far, 0.03, words), words, atol=1e-5, rtol=0)
    even = torch.full((1, 2), (LIKE_WORDS - 1) / 0.03).double()
    torch.testing.assert_close(
        with_words(even, 0.03, words), torch.tensor([[1.9 / 3, 1.1 / 3]]).double()
    )


def test_a_trained_head_and_words_are_multiplied() -> None:
    head, words = torch.tensor([[0.5, 0.5], [1.0, 0.0]]), torch.tensor([[0.8, 0.2], [0.3, 0.7]])
    got = blended(head, words)
    torch.testing.assert_close(got[0], words[0])
    assert float(got[1, 0]) == pytest.approx(1.0)
