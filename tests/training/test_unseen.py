"""Kinds that are held out: the fold files, the split they make, and the table over methods."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training_runs import run
from training.config import Config
from training.data.folds import FOLDS, hold_out, read_folds, read_photos_as
from training.data.photos import MAPS, PhotoSet, read_photos
from training.errors import ConfigError, DataError
from training.outcome import measure
from training.records import parse_config
from training.unseen import VOTES, _figures, _train_head, measure_unseen
from training.unseen_report import write_unseen_report
from training.unseen_rows import over_seeds
from training.votes import WORDED_VOTES, Asked
from training.words import make_guide, read_words

FOLD_FILE = """
[kinds]
ochre = ["amber-0"]

[folds]
a = ["ochre", "moss-1"]
b = ["amber-1", "cobalt-0"]
"""


@pytest.fixture
def data(make_dataset: Callable[..., Path]) -> PhotoSet:
    return read_photos(make_dataset())


@pytest.fixture
def fold_file(tmp_path: Path) -> Path:
    file = tmp_path / "folds.toml"
    file.write_text(FOLD_FILE, encoding="utf-8")
    return file


@pytest.fixture
def record(tmp_path: Path, tiny_record: Callable[..., dict[str, Any]]) -> Callable[..., str]:
    """A maker of record files, as JSON turned into TOML by hand."""

    def make(method: str, **sections: Any) -> str:
        content = tiny_record(name=f"tiny-{method.replace('_', '-')}", method=method, **sections)
        lines = [f'{k} = "{v}"' for k, v in content.items() if not isinstance(v, dict)]
        for name, section in content.items():
            if isinstance(section, dict):
                lines += [f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in section.items())]
        file = tmp_path / f"{content['name']}.toml"
        file.write_text("\n".join(lines), encoding="utf-8")
        return str(file)

    return make


def test_photos_of_a_held_out_kind_are_unseen_whatever_their_split(
    data: PhotoSet, fold_file: Path
) -> None:
    held = hold_out(data, read_folds(str(fold_file)), "a")
    assert {photo.subclass for photo in held.split("unseen")} == {"amber-0", "moss-1"}
    assert len(held.photos) == len(data.photos)
    for split in ("train", "val", "test"):
        assert not {"amber-0", "moss-1"} & {photo.subclass for photo in held.split(split)}
        kept = [p for p in data.split(split) if p.subclass not in ("amber-0", "moss-1")]
        assert list(held.split(split)) == kept


def test_some_photos_of_a_held_out_kind_may_be_shown_but_not_more_than_half(
    data: PhotoSet, fold_file: Path
) -> None:
    folds = read_folds(str(fold_file))
    whole = hold_out(data, folds, "a")
    each = Counter(photo.subclass for photo in whole.split("unseen"))
    for shots in (1, 2, 100):
        held = hold_out(data, folds, "a", shots)
        shown = Counter(p.subclass for p in held.split("train")) - Counter(
            p.subclass for p in whole.split("train")
        )
        assert shown == {kind: min(shots, count // 2) for kind, count in each.items()}
        left = Counter(photo.subclass for photo in held.split("unseen"))
        assert left == each - shown
        assert hold_out(data, folds, "a", shots) == held
        assert held.split("test") == whole.split("test")


def test_a_record_holds_kinds_out_wherever_it_reads_photos(
    data: PhotoSet, fold_file: Path, tiny_config: Callable[..., Config]
) -> None:
    config = tiny_config(data={"hold_out": f"{fold_file}:b"})
    held = read_photos_as(data.root, config)
    assert {photo.subclass for photo in held.split("unseen")} == {"amber-1", "cobalt-0"}
    assert not read_photos_as(data.root, tiny_config()).split("unseen")


def test_a_run_never_meets_what_it_holds_out_and_is_measured_on_it(
    data: PhotoSet, fold_file: Path, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = tiny_config(data={"hold_out": f"{fold_file}:a"})
    kept = run(config, read_photos_as(data.root, config), tmp_path / "run")["model"]
    assert len(kept["bank"]) == 6
    assert not {"amber-0", "moss-1"} & {item["subclass"] for item in kept["bank"]}
    outcome = measure(tmp_path / "run", data.root, "unseen", None, "cpu")
    assert {photo.subclass for photo in outcome.photos} == {"amber-0", "moss-1"}
    assert len(outcome.logits) == len(outcome.photos) > 0


def test_a_run_is_measured_on_a_folder_of_test_photos_alone(
    data: PhotoSet,
    fold_file: Path,
    make_dataset: Callable[..., Path],
    tiny_config: Callable[..., Config],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tiny_config(data={"hold_out": f"{fold_file}:a"})
    run(config, read_photos_as(data.root, config), tmp_path / "run")
    root = make_dataset("others", train=0, val=0, test=4)
    seen = measure(tmp_path / "run", root, "test", None, "cpu")
    assert len(seen.photos) == 8
    assert not {"amber-0", "moss-1"} & {photo.subclass for photo in seen.photos}
    assert len(measure(tmp_path / "run", root, "unseen", None, "cpu").photos) == 4
    told = "note: the model was trained without ochre, moss-1; of these .* has 4 photos, which"
    assert re.search(told, capsys.readouterr().out)
    labels = root / "labels.csv"
    labels.write_text(labels.read_text().replace("amber-0", "amber-1").replace("moss-1", "moss-0"))
    assert len(measure(tmp_path / "run", root, "test", None, "cpu").photos) == 12
    assert re.search("of these .* has no photos", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("folds = 3", "expected lines name"),
        ("[kinds]\na = ['x']", "expected the tables folds and kinds"),
        ("[folds]\n1 = ['x']\n[more]\na = ['x']", "expected the tables folds and kinds"),
        ("[folds]\n1 = []", "expected lines name"),
        ("[kinds]\na = ['x']\nb = ['x']\n[folds]\n1 = ['a']", "both a and b"),
        ("[kinds]\na = ['x', 'y']\n[folds]\n1 = ['x']", "only a part of the kind a"),
        ("[folds", "is not TOML"),
    ],
)
def test_a_bad_fold_file_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=words):
        read_folds(str(file))


def test_what_cannot_be_held_out_is_told(
    data: PhotoSet, fold_file: Path, tmp_path: Path, tiny_config: Callable[..., Config]
) -> None:
    folds = read_folds(str(fold_file))
    with pytest.raises(DataError, match="has the folds a, b, got 'c'"):
        hold_out(data, folds, "c")
    with pytest.raises(DataError, match=r"no photo of battery.*fold 1"):
        hold_out(data, read_folds("refuse"), "1")
    whole = tmp_path / "whole.toml"
    whole.write_text('[folds]\n1 = ["amber-0", "amber-1"]\n', encoding="utf-8")
    with pytest.raises(DataError, match="leaves no photo of amber to train"):
        hold_out(data, read_folds(str(whole)), "1")
    with pytest.raises(DataError, match="one of cifar100-4, refuse"):
        read_folds("refuze")
    with pytest.raises(ConfigError, match="hold_out"):
        tiny_config(data={"hold_out": "refuse"})


@pytest.mark.parametrize("name", sorted(file.stem for file in FOLDS.glob("*.toml")))
def test_the_shipped_folds_hold_every_kind_out_once(name: str) -> None:
    folds = read_folds(name)
    held = Counter(kind for kinds in folds.held_out.values() for kind in kinds)
    assert set(held.values()) == {1}
    assert set(folds.kind_of.values()) <= set(held)
    assert len(folds.held_out) == 4


@pytest.mark.parametrize("name", ["refuse", "refuse-tune"])
def test_each_refuse_fold_has_one_hazardous_kind(name: str) -> None:
    hazardous = {"battery", "fluorescent_lamp", "paint_bucket", "tablet_capsules"}
    held = read_folds(name).held_out
    assert all(len(hazardous & set(kinds)) == 1 for kinds in held.values())
    if name == "refuse-tune":  # recipes are not chosen on the folds that are reported
        assert not {frozenset(k) for k in held.values()} & {
            frozenset(k) for k in read_folds("refuse").held_out.values()
        }


def test_the_cifar_folds_have_the_labels_of_its_map() -> None:
    text = (MAPS / "cifar100-4.toml").read_text(encoding="utf-8")
    held = [kind for kinds in read_folds("cifar100-4").held_out.values() for kind in kinds]
    assert len(held) == 100
    assert all(f'"{kind}"' in text for kind in held)


@pytest.mark.parametrize("vote", sorted(VOTES))
def test_a_vote_counts_each_superclass_alike(vote: str) -> None:
    """Between 90 photos of one and 10 of the other, equally near, neither wins."""
    torch.manual_seed(0)
    directions = torch.eye(8)[:2].repeat_interleave(torch.tensor([90, 10]), dim=0)
    labels = np.array([0] * 90 + [1] * 10)
    predict = VOTES[vote](directions, labels, 2)
    near = predict(torch.eye(8)[:2])
    assert near.argmax(axis=1).tolist() == [0, 1]
    if vote == "kernel":
        np.testing.assert_allclose(predict(torch.eye(8)[:1] + torch.eye(8)[1:2]), 0.5, atol=1e-6)
    np.testing.assert_allclose(near.sum(axis=1), 1.0)


def test_methods_are_measured_on_each_fold_and_not_twice(
    data: PhotoSet, fold_file: Path, record: Callable[..., str], tmp_path: Path
) -> None:
    records = [record("sclre"), record("cross_entropy")]
    out = tmp_path / "out"

    def measure(seeds: int, overrides: list[str] | None = None) -> list[dict[str, Any]]:
        return measure_unseen(
            str(fold_file), data.root, out, records, overrides, seeds, None, "cpu"
        )

    rows = measure(1)
    assert len(rows) == 2 * (len(VOTES) + 2)
    for row in rows:
        assert row["unseen_photos"] == len(
            hold_out(data, read_folds(str(fold_file)), row["fold"]).split("unseen")
        )
        assert 0.0 <= row["balanced_accuracy"] <= 1.0
        assert set(row["recall"]) < {"amber", "cobalt", "moss"}  # a fold need not have them all
    features = next(out.glob("features-*.npy"))
    written = features.stat().st_mtime_ns
    again = measure(2)
    assert again[: len(rows)] == rows
    assert len(again) == len(rows) + 4
    assert features.stat().st_mtime_ns == written
    assert [len(v) for v in over_seeds(again, "balanced_accuracy").values()] == [1, 1, 2, 2]

    changed = measure(2, ["train.head_lr=0.001"])
    rates = {row["settings"]["train"]["head_lr"] for row in changed if "train" in row["settings"]}
    assert rates == {0.001}
    assert len(changed) == len(again)
    fewer = measure(1, ["data.px=24"])  # the votes, too, are of what they saw
    assert len(fewer) == len(rows)
    assert {row["settings"]["data"]["px"] for row in fewer} == {24}

    table = write_unseen_report(changed, out, str(fold_file), "superbin unseen /a/folds.toml")
    assert table.count("\n") == 1 + len(VOTES) + 2
    assert " ± " in table
    told = (out / "unseen.md").read_text()
    assert told.endswith(f"\n\n{table}\n")
    assert f"Folds of {fold_file.stem}: " in told
    assert "seeds: 0, 1 (votes have none)" in told
    assert "Made by `superbin unseen folds.toml`." in told
    assert (out / "unseen.png").stat().st_size > 10_000


def test_other_pictures_under_the_same_names_are_measured_anew(
    data: PhotoSet, fold_file: Path, record: Callable[..., str], tmp_path: Path
) -> None:
    def measure() -> list[dict[str, Any]]:
        records = [record("cross_entropy")]
        return measure_unseen(str(fold_file), data.root, tmp_path, records, None, 1, None, "cpu")

    before = measure()
    assert measure() == before
    for index, photo in enumerate(data.photos):
        noise = np.random.default_rng(index).integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(noise).save(data.root / photo.path)
    assert [row["balanced_accuracy"] for row in measure()] != [
        row["balanced_accuracy"] for row in before
    ]


def test_records_that_see_other_photos_are_not_compared(
    data: PhotoSet, fold_file: Path, record: Callable[..., str], tmp_path: Path
) -> None:
    records = [record("sclre"), record("cross_entropy", data={"px": 32})]
    with pytest.raises(ConfigError, match="the same"):
        measure_unseen(str(fold_file), data.root, tmp_path / "o", records, None, 1, None, "cpu")
    held = ["data.hold_out=refuse:1"]
    with pytest.raises(ConfigError, match=r"without data\.hold_out"):
        measure_unseen(str(fold_file), data.root, tmp_path / "o", records[:1], held, 1, None, "cpu")


def test_folds_need_photos_of_seen_kinds_to_test_by(
    data: PhotoSet, fold_file: Path, record: Callable[..., str], tmp_path: Path
) -> None:
    given = str(fold_file), data.root, tmp_path / "out", [record("cross_entropy")]
    for file in data.root.rglob("test-*.png"):
        file.write_text(f"no photo, {file}")  # equal ones would be in one split
    with pytest.raises(DataError, match="no photo of the test split can be decoded"):
        measure_unseen(*given, None, 1, None, "cpu")
    lines = (data.root / "labels.csv").read_text(encoding="utf-8").splitlines()
    undivided = "\n".join(line.rpartition(",")[0] for line in lines)
    (data.root / "labels.csv").write_text(undivided, encoding="utf-8")
    with pytest.raises(DataError, match=r"in the test split, got none by fold a .*test_fraction"):
        measure_unseen(*given, ["data.test_fraction=0"], 1, None, "cpu")


def test_a_reported_table_has_every_superclass(tmp_path: Path) -> None:
    """Even those that the first fold does not hold out."""
    shared = {"record": "r", "seed": 0, "coverage": [0.5, 1.0], "accuracy_at_coverage": [1.0, 0.5]}
    figures = dict.fromkeys(
        (
            "balanced_accuracy",
            "selective_balanced_accuracy",
            "sorted_wrong",
            "seen_sorted",
            "auroc_unseen",
            "seen_balanced_accuracy",
        ),
        0.5,
    )
    rows = [
        {**shared, **figures, "fold": "1", "recall": {"amber": 1.0}},
        {**shared, **figures, "fold": "2", "recall": {"amber": 0.0, "moss": 0.25}},
    ]
    table = write_unseen_report(rows, tmp_path, "refuse", "superbin unseen refuse")
    assert "| 50.0% | 25.0% |" in table


def test_the_share_that_is_sorted_wrongly_goes_by_a_threshold_of_val() -> None:
    known = torch.zeros(1, 2), np.zeros(1, dtype=np.int64)
    # Of val's six photos the second surest is wrong: 0.8 is the lowest threshold without an error.
    val = torch.tensor([[8.0], [7.0], [9.0], [6.5], [6.0], [5.5]]), np.array([0, 1, 0, 0, 0, 0])
    unseen = torch.tensor([[9.5], [8.5], [8.0], [7.9]]), np.array([1, 0, 1, 1])
    asked = Asked(known, unseen, val, val, torch.zeros(1), torch.ones(1))

    def predict(x: torch.Tensor) -> np.ndarray:
        sure = x.numpy() / 10
        return np.hstack([sure, 1 - sure])

    figures = _figures(predict, asked, ("amber", "moss"))
    assert figures["sorted"] == 0.75
    assert figures["seen_sorted"] == 2 / 6
    assert figures["sorted_wrong"] == 0.5


def test_words_of_a_record_see_features_as_they_are(
    tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    guide = tmp_path / "guide.toml"
    guide.write_text('[superclasses]\namber = ["banana"]\nmoss = ["mushroom"]\n')
    torch.manual_seed(0)
    raw = 3 * torch.randn(24, 1280) + 1
    mean, deviation = raw.mean(dim=0), raw.std(dim=0) + 1e-3
    known = (raw - mean) / deviation, np.arange(24) % 2
    asked = Asked(known, known, known, known, mean, deviation)
    plain = {"width": 8, "temperature": 0.05, "like_words": -1.0}
    bins = ("amber", "moss")
    photos = torch.randn(6, 1280)

    def answers(**words: Any) -> np.ndarray:
        config = tiny_config(
            method="matching",
            matching={**plain, **words},
            backbone={"pretrained": True},
            bank={"selection": "all"},
        )
        return _train_head(config, asked, bins, 0)(photos)

    # Words that hardly weigh change nothing, so that features were standardised once.
    without = answers()
    np.testing.assert_allclose(answers(words=str(guide)), without, atol=1e-3)
    # Words that decide say what they say of features before that.
    expected = make_guide(read_words(str(guide), bins), "efficientnet_lite0")
    expected.to_whole_numbers()
    expected.fit(asked.as_they_are(known[0]), torch.from_numpy(known[1]))
    said = expected(asked.as_they_are(photos)).probabilities.numpy()
    # With a likeness of 1 a bank item can weigh as much only if it is the photo itself.
    decided = answers(words=str(guide), like_words=1.0, temperature=0.005)
    np.testing.assert_allclose(decided, said, atol=1e-3)


def test_the_shipped_records_share_a_backbone() -> None:
    from training.records import load_config

    one = load_config("unseen-sclre")
    for name in ("cross-entropy", "matching", "words"):
        other = load_config(f"unseen-{name}")
        assert one.backbone == other.backbone
        assert one.data == other.data
    assert parse_config(one.model_dump(mode="json")) == one


def test_words_are_measured_alone_with_the_kernel_and_with_cross_entropy(
    data: PhotoSet, fold_file: Path, record: Callable[..., str], tmp_path: Path
) -> None:
    guide = tmp_path / "guide.toml"
    guide.write_text(
        '[superclasses]\namber = ["banana"]\ncobalt = ["glass bottle"]\nmoss = ["mushroom"]\n'
    )
    rows = measure_unseen(
        str(fold_file),
        data.root,
        tmp_path / "out",
        [record("cross_entropy"), record("sclre")],
        None,
        1,
        None,
        "cpu",
        words=str(guide),
    )
    names = {row["record"] for row in rows} - set(VOTES)
    worded = {name for name in names if name.endswith("words")}
    assert worded == {*WORDED_VOTES, *(n for n in worded if "cross" in n)}
    assert len(worded) == 3
    assert len(names) == 5
    for row in rows:
        assert ("words" in row["settings"]) == row["record"].endswith("words")
