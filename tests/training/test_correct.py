"""Instant correction: a new version whose bank has the reviewed photos, and nothing else is new."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bundle import MANIFEST, read_bundle, read_manifest, sha256_of, write_manifest
from service.catalogue import open_bundle
from service.classifier import Classifier
from service.familiarity import Familiarity, read_items
from service.fitted import ItemSpread
from service.preprocess import decode
from service.self_test import check_answers
from tests.tiny_matching import (
    KINDS,
    SPEC,
    SUPERCLASSES,
    add_val,
    foreign_photo,
    photo_of,
    write_bundle,
    write_photos,
)
from tests.tiny_site import write_site
from tests.training_runs import ConfigMaker, DatasetMaker
from tests.training_runs import run as train_run
from training.bank_keys import usual_weight
from training.calibrate import calibrate_run
from training.correct import Order, correct_bundle
from training.data.own import read_labels
from training.data.photos import read_photos
from training.data.review import ReviewFolder
from training.doubt_reference import with_doubts
from training.errors import ConfigError, DataError, RunError
from training.export import export_run
from training.records import load_config
from training.served_bank import served_bank

COMMAND = "superbin correct models/bins/1 --from-review /somewhere/review"
Relabel = Callable[[Path, dict[str, str]], None]


def right(path: Path, kind: str) -> float:
    """Share of unseen photos of a kind that a bundle is right about."""
    pixels = np.stack([decode(photo_of(kind, n), SPEC) for n in range(200, 230)])
    found = Classifier(read_bundle(path), threads=1).run(pixels).probabilities.argmax(axis=1)
    return float((found == SUPERCLASSES.index(KINDS[kind][0])).mean())


@contextmanager
def listed(review: Path) -> Iterator[list[dict[str, str]]]:
    """The rows of the review's list, written again as they are then."""
    with (review / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    yield rows
    with (review / "labels.csv").open("w") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def relabel(review: Path, labels: dict[str, str]) -> None:
    """Give photos of the review, by the end of their path, another superclass."""
    with listed(review) as rows:
        for row in rows:
            for path, superclass in labels.items():
                if row["path"].endswith(path):
                    row["superclass"] = superclass


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    """A bundle that has never seen a battery."""
    return write_bundle(tmp_path / "models", without=["battery"], drift=True)


@pytest.fixture
def review(tmp_path: Path) -> Path:
    """Batteries that were reviewed: ten to learn from, three held out."""
    return write_photos(tmp_path / "review", ["battery"], {"train": 10, "test": 3}, first=100)


@pytest.fixture
def order(wrong: Path, review: Path) -> Order:
    return Order(bundle=wrong, out=wrong.parent / "2", review=ReviewFolder(review))


def test_a_threshold_is_not_fitted_anew_without_data(order: Order) -> None:
    with pytest.raises(ConfigError, match="--recalibrate: expected --data"):
        correct_bundle(replace(order, recalibrate=True), COMMAND)
    assert not order.out.exists()


def test_what_is_corrected_while_a_newer_version_is_there_leaves_that_out_and_says_so(
    order: Order, review: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    correct_bundle(order, COMMAND)
    told = capsys.readouterr()
    name = order.bundle.parent.name
    assert f"with SUPERBIN_MODEL={name}/1 it stays with {name}/1" in told.out
    assert "was the newest" not in told.err
    correct_bundle(replace(order, out=order.out.parent / "3"), COMMAND)
    told = capsys.readouterr()
    assert f"warning: {name}/2 was the newest, and 3 has nothing of what joined it" in told.err


def test_in_another_folder_of_models_nobody_is_sent_to_a_version_that_is_not_there(
    order: Order, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = tmp_path / "other-models"
    correct_bundle(replace(order, out=models / order.bundle.parent.name / "1"), COMMAND)
    told = capsys.readouterr().out
    assert f"a service of the models in {models} (SUPERBIN_MODELS_DIR)" in told
    assert f"is not there but at {order.bundle}: a service" in told
    assert "SUPERBIN_MODEL=" not in told


def test_what_was_wrong_is_right_and_nothing_else_changes(
    order: Order, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {kind: right(order.bundle, kind) for kind in KINDS}
    assert before["battery"] == 0.0
    correct_bundle(order, COMMAND)
    assert right(order.out, "battery") > 0.9
    for kind in ("can", "paper", "peel", "paint"):
        assert right(order.out, kind) >= before[kind]
    told = capsys.readouterr().out
    assert "10 battery (hazardous)" in told
    assert "added or known: 0 to 10 of 10, which the bank now has" in told
    assert "held out: 0 to 3 of 3" in told


def test_kinds_that_nobody_knows_are_told_with_near_ones(
    order: Order, review: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with listed(review) as rows:
        for row, kind in zip(rows, ("paints", "hat", "glow stick", "paint"), strict=False):
            row["subclass"] = kind
    sites = tmp_path / "sites"
    sites.mkdir()
    write_site(sites, {"items": {"hat": "rest"}})
    (sites / "broken.yaml").write_text("site: [")
    correct_bundle(replace(order, sites_dir=sites), COMMAND)
    told = capsys.readouterr().err.splitlines()
    end = "which neither the bank nor a site knows"
    assert told == [
        f"warning: 9 reviewed photos of a new kind, 'battery', {end}",
        f"warning: 1 reviewed photo of a new kind, 'glow stick', {end}",
        f"warning: 1 reviewed photo of a new kind, 'paints', {end}; close to it is paint",
    ]


def test_kinds_that_may_be_slips_are_told_with_how_many(
    order: Order, review: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with listed(review) as rows:
        for row, kind in zip(rows, ("batery", "=1+1", "can", "can"), strict=False):
            row["subclass"] = kind
    cans = [item for item in read_manifest(order.bundle).bank.items if item.subclass == "can"]
    correct_bundle(order, COMMAND)
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("warning: 1 reviewed photo of '=1+1', which is no kind: expected ")
    assert told[1].startswith("warning: 1 reviewed photo of a new kind, 'batery', ")
    assert told[1].endswith("; close to it is battery (new, too)")
    assert told[2].endswith("; close to it is batery (new, too)")
    assert told[3:] == [
        "warning: 2 reviewed photos of 'can' as hazardous, which the bank has as recyclable "
        f"({len(cans)})"
    ]


def test_the_graphs_stay_byte_by_byte_and_the_manifest_says_what_happened(order: Order) -> None:
    correct_bundle(order, COMMAND)
    old, new = read_bundle(order.bundle), open_bundle(order.out)
    for name in ("model.onnx", "fp32.onnx", "self-test-can.png"):
        assert new.manifest.files[name] == old.manifest.files[name]
        assert (order.out / name).read_bytes() == (order.bundle / name).read_bytes()
    added = new.manifest.bank.items[len(old.manifest.bank.items) :]
    assert [item.id for item in added] == [
        f"review/photos/battery-{n}.png" for n in range(100, 110)
    ]
    assert {(i.superclass, i.subclass, i.source) for i in added} == {
        ("hazardous", "battery", "review")
    }
    (correction,) = new.manifest.provenance.corrections
    assert correction.parent == "bins/1"
    assert correction.parent_manifest_sha256 == sha256_of(order.bundle / MANIFEST)
    assert correction.command == "superbin correct models/bins/1 --from-review review"
    assert (correction.added, correction.removed) == (10, 0)
    assert new.manifest.provenance.trained_at == old.manifest.provenance.trained_at
    assert new.manifest.metrics == ()  # nothing was measured
    assert new.manifest.bank.file in new.manifest.files


def test_items_are_as_heavy_as_their_values_and_how_they_spread_is_kept(order: Order) -> None:
    told = ItemSpread(temperature=2.0, unnamed=0.1, split="val", photos=40)
    manifest = read_manifest(order.bundle).model_copy(update={"item_spread": told})
    write_manifest(order.bundle, manifest)
    correct_bundle(replace(order, weight=7.0), COMMAND)
    new = read_bundle(order.out)
    values = served_bank(new).values.sum(axis=1)
    assert [item.weight for item in new.manifest.bank.items] == values.tolist()
    assert set(values) == {1.0, 7.0}
    assert new.manifest.item_spread == told


def test_another_kind_for_a_photo_of_the_bank_replaces_its_item(
    order: Order, review: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    correct_bundle(order, COMMAND)
    with listed(review) as rows:
        rows[0]["subclass"], rows[1]["subclass"] = "paint", ""
    again = replace(order, bundle=order.out, out=order.out.parent / "3")
    correct_bundle(again, COMMAND)
    kinds = {item.id: item.subclass for item in read_manifest(again.out).bank.items}
    assert kinds["review/photos/battery-100.png"] == "paint"
    assert kinds["review/photos/battery-101.png"] == "battery"  # no kind, so nothing else
    assert "1 added, 1 removed" in capsys.readouterr().out


def test_what_depends_on_the_bank_is_dropped_aloud(
    order: Order, capsys: pytest.CaptureFixture[str]
) -> None:
    correct_bundle(order, COMMAND)
    assert not (order.out / "drift.npz").exists()
    assert "drift.npz" not in read_manifest(order.out).files
    told = capsys.readouterr().out
    assert f"drift; superbin reference {order.out} --only drift --data DIR makes that anew" in told
    assert "old bank's answers: drift" in (order.out / "CARD.md").read_text()


def test_the_card_says_what_changed_and_keeps_what_was_written(order: Order) -> None:
    correct_bundle(order, COMMAND)
    card = (order.out / "CARD.md").read_text()
    assert card.startswith("# bins/2\n")
    assert "all 40 training photos, and 10 reviewed ones" in card
    assert "## What changed" in card
    assert "has not been measured" in card
    assert "was written for bins/1" in card
    assert "## Licences" in card
    again = replace(order, bundle=order.out, out=order.out.parent / "3", review=None)
    correct_bundle(replace(again, remove=("review/photos/battery-100.png",)), COMMAND)
    card = (again.out / "CARD.md").read_text()
    assert "## Licences" in card
    assert card.count("was written for") == 1
    assert card.count("superbin correct") == 2


def test_the_self_test_is_answered_anew(order: Order, review: Path) -> None:
    """Even where the correction turns the photo of the self-test around."""
    write = review / "photos" / "battery-100.png"
    write.write_bytes(photo_of("can", 99))  # the self-test's own photo
    relabel(review, {"battery-100.png": "residual"})
    before = read_manifest(order.bundle).self_test[0].probabilities
    correct_bundle(order, COMMAND)
    after = read_manifest(order.out).self_test[0].probabilities
    assert np.argmax(before) == SUPERCLASSES.index("recyclable")
    assert np.argmax(after) == SUPERCLASSES.index("residual")
    check_answers(Classifier(read_bundle(order.out), threads=1))


def test_with_data_it_is_measured_before_and_after(
    order: Order, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_photos(tmp_path / "data")
    correct_bundle(replace(order, data=data), COMMAND)
    manifest = read_manifest(order.out)
    figures = {(m.name, m.split, m.variant): m.value for m in manifest.metrics}
    assert figures["accuracy", "test", "int8"] > 0.9
    assert figures["agreement_with_fp32", "test", "int8"] == 1.0
    assert manifest.calibration == read_manifest(order.bundle).calibration
    told, warned = capsys.readouterr()
    assert "test, 24 photos: accuracy 83.33% to " in told
    assert "worse than its parent" not in warned
    card = (order.out / "CARD.md").read_text()
    assert "### Per superclass on test" in card
    assert "Before and after" in card
    assert (order.out / "confusion.png").is_file()


def test_a_version_that_is_worse_is_written_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = write_bundle(tmp_path / "models")
    data = write_photos(tmp_path / "data")
    order = Order(known, known.parent / "2", remove_kinds=("battery",), data=data)
    correct_bundle(order, COMMAND)
    read_bundle(order.out)
    told = [line for line in capsys.readouterr().err.splitlines() if "warning:" in line]
    rule = "superbin promote refuses what loses more than 1 point of a superclass's recall on test"
    assert told == [
        f"warning: worse than its parent on {split}: balanced accuracy 100.00% to 87.50%, "
        f"recall of hazardous 100.00% to 50.00%; {rule}"
        for split in ("val", "test")
    ]


def test_the_threshold_is_fitted_anew_where_that_is_asked_for(order: Order, tmp_path: Path) -> None:
    data = write_photos(tmp_path / "data")
    correct_bundle(replace(order, data=data, recalibrate=True), COMMAND)
    calibration = read_manifest(order.out).calibration
    assert calibration.confidence_threshold != 0.7
    assert calibration.photos == 18
    assert calibration.temperature == 1.0  # the graph's


def test_a_threshold_is_fitted_without_photos_that_the_bank_has(
    order: Order, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_photos(tmp_path / "data")
    again = replace(order, data=data, recalibrate=True, out=order.out.with_name("3"))
    correct_bundle(again, COMMAND)
    fair = read_manifest(again.out).calibration
    add_val(data, range(8), [kind for kind in KINDS if kind != "battery"])  # the bank's own
    correct_bundle(replace(order, data=data, recalibrate=True), COMMAND)
    calibration = read_manifest(order.out).calibration
    assert calibration == fair
    assert "threshold from val: 40 of 58 photos are left out" in capsys.readouterr().out


def test_photos_of_val_and_test_are_not_learned(
    order: Order, review: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_photos(tmp_path / "data")
    (review / "photos" / "battery-100.png").write_bytes(photo_of("battery", 12))  # of test
    correct_bundle(replace(order, data=data), COMMAND)
    assert len(read_manifest(order.out).bank.items) == 49
    assert "battery-100.png (a photo of val or test)" in capsys.readouterr().out


def test_held_out_photos_never_join(order: Order) -> None:
    correct_bundle(order, COMMAND)
    ids = {item.id for item in read_manifest(order.out).bank.items}
    assert not ids & {f"review/photos/battery-{n}.png" for n in (110, 111, 112)}


def test_an_item_weighs_what_is_asked_for(order: Order) -> None:
    correct_bundle(order, COMMAND)
    correct_bundle(replace(order, out=order.out.parent / "3", weight=2.0), COMMAND)
    for path, weight in ((order.out, 1.0), (order.out.parent / "3", 2.0)):
        values = served_bank(read_bundle(path)).values
        assert values[:40].max() == 1.0
        assert set(values[40:].max(axis=1)) == {weight}
    assert read_manifest(order.out.parent / "3").provenance.corrections[0].weight == 2.0


def test_by_default_an_item_weighs_more_in_a_dense_bank(order: Order) -> None:
    bank = served_bank(read_bundle(order.bundle))
    assert [usual_weight(replace(bank, items=bank.items * n)) for n in (1, 50, 500)] == [1, 4, 10]


def test_items_and_kinds_leave(order: Order) -> None:
    correct_bundle(order, COMMAND)
    third, fourth = order.out.parent / "3", order.out.parent / "4"
    gone = "review/photos/battery-103.png"
    correct_bundle(Order(bundle=order.out, out=third, remove=(gone,)), COMMAND)
    manifest = read_manifest(third)
    assert gone not in {item.id for item in manifest.bank.items}
    assert [c.removed for c in manifest.provenance.corrections] == [0, 1]
    correct_bundle(Order(bundle=third, out=fourth, remove_kinds=("battery",)), COMMAND)
    old, new = (served_bank(read_bundle(path)) for path in (order.bundle, fourth))
    assert new.items == old.items
    np.testing.assert_array_equal(new.keys, old.keys)
    pixels = np.stack([decode(photo_of(kind, 60), SPEC) for kind in KINDS])
    answers = [
        Classifier(read_bundle(p), threads=1).run(pixels).probabilities
        for p in (order.bundle, fourth)
    ]
    np.testing.assert_array_equal(*answers)


def test_the_same_review_again_adds_only_what_is_new(
    order: Order, review: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    correct_bundle(order, COMMAND)
    again = replace(order, bundle=order.out, out=order.out.parent / "3")
    with pytest.raises(ConfigError, match="would not change; 10 reviewed photos are in it already"):
        correct_bundle(again, COMMAND)
    assert not again.out.exists()
    write_photos(review.parent / "more", ["battery"], {"train": 12}, first=100)
    capsys.readouterr()
    correct_bundle(replace(again, review=ReviewFolder(review.parent / "more")), COMMAND)
    assert len(read_manifest(again.out).bank.items) == 52
    assert "in the bank already: review/photos/battery-100.png" in capsys.readouterr().out


def test_the_latest_review_of_a_photo_counts(
    order: Order, review: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether the bank knows it by its name or only by its looks."""
    correct_bundle(order, COMMAND)
    relabel(review, {"battery-104.png": "residual"})
    (review / "photos" / "battery-105.png").write_bytes(photo_of("can", 3))  # a bank item's photo
    relabel(review, {"battery-105.png": "residual"})
    again = replace(order, bundle=order.out, out=order.out.parent / "3")
    correct_bundle(again, COMMAND)
    items = {item.id: item.superclass for item in read_manifest(again.out).bank.items}
    assert items["review/photos/battery-104.png"] == "residual"
    assert items["review/photos/battery-105.png"] == "residual"
    assert "photos/can-003.png" not in items
    told = capsys.readouterr().out
    assert "photos/can-003.png by review/photos/battery-105.png" in told


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"review": None},
            r"expected reviewed photos \(--from-review\), items to --remove, or pictures",
        ),
        ({"remove": ("photos/can-00.png",)}, r"close to it are photos/can-00\d\.png"),
        ({"remove_kinds": ("batery",)}, "expected the subclass of a bank item to remove"),
        ({"most": 9}, "at most 9 reviewed items in the bank, got 10: train with them"),
        ({"remove_kinds": ("mug",)}, "no item of residual left"),
    ],
)
def test_what_cannot_be_done_is_refused(order: Order, change: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        correct_bundle(replace(order, **change), COMMAND)
    assert [path.name for path in order.bundle.parent.iterdir()] == ["1"]


def test_a_version_is_never_overwritten_and_keeps_its_name(order: Order) -> None:
    with pytest.raises(ConfigError, match="never overwritten"):
        correct_bundle(replace(order, out=order.bundle), COMMAND)
    with pytest.raises(ConfigError, match="expected a version of bins"):
        correct_bundle(replace(order, out=order.bundle.parent.parent / "other" / "1"), COMMAND)


def test_reviewed_photos_that_cannot_be_used_are_named(
    order: Order, review: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (review / "photos" / "battery-101.png").unlink()
    (review / "photos" / "battery-102.png").write_bytes(b"no photo")
    correct_bundle(order, COMMAND)
    assert len(read_manifest(order.out).bank.items) == 48
    told = capsys.readouterr().out
    assert "battery-101.png (missing)" in told
    assert "battery-102.png (" in told
    relabel(review, {"battery-103.png": "glass"})
    with pytest.raises(DataError, match=r"expected superclasses of hazardous.*got glass"):
        correct_bundle(replace(order, out=order.out.parent / "3"), COMMAND)
    (review / "labels.csv").unlink()
    with pytest.raises(DataError, match=r"expected reviewed photos: a folder with a labels\.csv"):
        correct_bundle(replace(order, out=order.out.parent / "3"), COMMAND)


def test_a_method_that_is_not_known_is_refused(tmp_path: Path, review: Path) -> None:
    path = write_bundle(tmp_path / "m", method="kernel")
    with pytest.raises(ConfigError, match=r"by matching or SCLRE.*got 'kernel'"):
        correct_bundle(
            Order(bundle=path, out=path.parent / "2", review=ReviewFolder(review)), COMMAND
        )


def test_sclre_takes_its_keys_from_the_run(
    make_dataset: DatasetMaker, tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    root, models = make_dataset(), tmp_path / "models" / "tiny"
    train_run(tiny_config(), read_photos(root), tmp_path / "run")
    calibrate_run(tmp_path / "run", root, 0.2, None, "cpu")
    export_run(tmp_path / "run", root, models / "1", None, None, None, "cpu")
    review = make_dataset("review", train=2, val=0, test=0)
    order = Order(bundle=models / "1", out=models / "2", review=ReviewFolder(review))
    with pytest.raises(ConfigError, match=r"a projection that its graph does not give.*--run"):
        correct_bundle(order, COMMAND)
    with pytest.raises(ConfigError, match="whose items have no weight"):
        correct_bundle(replace(order, run=tmp_path / "run", weight=2.0), COMMAND)
    correct_bundle(replace(order, run=tmp_path / "run"), COMMAND)
    bundle = open_bundle(order.out)
    assert len(bundle.manifest.bank.items) == 12
    bank = served_bank(bundle)
    learned = {item.id: row for row, item in enumerate(bank.items)}
    # A photo that the run has in its bank gets the very keys that it has there.
    for name, row in learned.items():
        if (twin := learned.get(name.removeprefix("review/"))) is not None and twin != row:
            np.testing.assert_allclose(bank.keys[row], bank.keys[twin], atol=1e-4)
    train_run(tiny_config(seed=1), read_photos(root), tmp_path / "other")
    with pytest.raises(RunError, match="is not the run that tiny/1 was exported from"):
        correct_bundle(replace(order, out=models / "3", run=tmp_path / "other"), COMMAND)


def test_a_card_that_is_not_ours_is_no_obstacle(order: Order) -> None:
    (order.bundle / "CARD.md").write_text("Anything.\n")
    correct_bundle(order, COMMAND)
    assert "As for bins/1." in (order.out / "CARD.md").read_text()


def test_a_parent_of_ill_health_is_refused(order: Order) -> None:
    manifest = read_manifest(order.bundle)
    items = manifest.bank.items[:-1]
    bank = manifest.bank.model_copy(update={"items": items})
    write_manifest(order.bundle, manifest.model_copy(update={"bank": bank}))
    with pytest.raises(Exception, match="expected keys and values of 39 bank items, got 40"):
        correct_bundle(order, COMMAND)


def test_doubts_are_taken_over_row_by_row_and_can_be_made_again(
    order: Order, review: Path, tmp_path: Path
) -> None:
    data = write_photos(tmp_path / "data")
    photos = read_photos(data)
    before = with_doubts(order.bundle, read_manifest(order.bundle), photos)
    gone = before.bank.items[3].id
    correct_bundle(replace(order, remove=(gone,)), COMMAND)
    bundle = read_bundle(order.out)
    old, new = before.familiarity, bundle.manifest.familiarity
    assert old is not None
    assert old.file is not None
    assert new is not None
    assert new.file is not None
    assert new.threshold == old.threshold
    assert bundle.manifest.quality == before.quality
    rows = read_items(order.out / new.file, bundle)
    theirs = read_items(order.bundle / old.file, read_bundle(order.bundle))
    np.testing.assert_array_equal(rows[:39], np.delete(theirs, 3, axis=0))
    pixels = np.stack([decode(photo_of("battery", n), SPEC) for n in range(100, 110)])
    embedded = Classifier(bundle, threads=1).run(pixels).embedding
    np.testing.assert_allclose(rows[39:], embedded, atol=1e-3)
    again = with_doubts(order.out, bundle.manifest, photos)  # reviewed photos are not in the data
    assert again.familiarity is not None
    assert again.familiarity.file is not None
    found = read_items(order.out / again.familiarity.file, read_bundle(order.out))
    np.testing.assert_allclose(found, rows, atol=1e-3)


def test_what_the_graph_tells_of_familiarity_is_of_the_corrected_bank(
    order: Order, tmp_path: Path
) -> None:
    photos = read_photos(write_photos(tmp_path / "data"))
    path = write_bundle(tmp_path / "told", familiarity=True)
    before = with_doubts(path, read_manifest(path), photos)
    assert before.familiarity is not None
    assert before.familiarity.file is None
    assert not list(path.glob("familiarity-*"))
    told = tmp_path / "told" / "bins" / "2"
    correct_bundle(replace(order, bundle=path, out=told), COMMAND)
    bundle = read_bundle(told)
    assert bundle.manifest.familiarity == before.familiarity
    pixels = np.stack([decode(photo_of("battery", n), SPEC) for n in range(100, 110)])
    old = Classifier(read_bundle(path), threads=1).run(pixels)
    new = Classifier(bundle, threads=1).run(pixels)
    items = Familiarity(served_bank(bundle).keys, before.familiarity.temperature)
    assert old.familiarity is not None
    assert new.familiarity is not None
    np.testing.assert_allclose(new.familiarity, items.of(new.embedding), atol=1e-5)
    assert (new.familiarity != old.familiarity).all()


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Pictures of no kind: two that the background of `compared` has, and ten that it has not."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    for n in (4, 5, *range(100, 110)):
        (folder / f"{n}.png").write_bytes(foreign_photo(n))
    return folder


@pytest.fixture
def compared(tmp_path: Path) -> Path:
    """A bundle with a background of another kind of pictures, and limits."""
    photos = read_photos(write_photos(tmp_path / "data"))
    path = write_bundle(tmp_path / "compared", background=6, drift=True)
    with_doubts(path, read_manifest(path), photos)
    return path


def test_pictures_join_the_background_and_what_is_like_them_is_foreign(
    order: Order, compared: Path, foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (foreign / "can.png").write_bytes(photo_of("can", 3))  # which the bank has
    (foreign / "twice.png").write_bytes(foreign_photo(100))
    asked = replace(
        order,
        bundle=compared,
        out=compared.parent / "2",
        review=None,
        background=foreign,
        data=compared.parents[2] / "data",
    )
    correct_bundle(asked, COMMAND)
    told = capsys.readouterr().out
    assert "background: 10 added, 6 to 16 pictures" in told
    assert "in the background already, or twice: 4.png, 5.png, twice.png" in told
    assert "left out of the background, since the bank has them: can.png is photos/can-003" in told
    assert "of val " in told
    assert "were unfamiliar" in told
    before, after = read_bundle(compared), read_bundle(asked.out)
    assert after.manifest.provenance.corrections[-1].background == 10
    assert after.manifest.bank.items == before.manifest.bank.items
    assert after.manifest.familiarity == before.manifest.familiarity
    assert after.manifest.drift == "drift.npz"  # no answer has changed
    assert "not carried over" not in told
    assert "background: 10 added" in (asked.out / "CARD.md").read_text()
    pixels = np.stack([decode(foreign_photo(n), SPEC) for n in range(300, 310)])
    old, new = (Classifier(bundle, threads=1).run(pixels) for bundle in (before, after))
    assert np.array_equal(old.probabilities, new.probabilities)
    assert old.familiarity is not None
    assert new.familiarity is not None
    assert (new.familiarity <= old.familiarity + 1e-6).all()  # what joins only adds
    assert (new.familiarity < old.familiarity - 0.01).any()
    # A correction of the bank alone keeps what joined, and the other way round.
    again = replace(order, bundle=asked.out, out=compared.parent / "3")
    correct_bundle(again, COMMAND)
    assert "made of the old bank's answers: drift" in capsys.readouterr().out
    bank = served_bank(read_bundle(again.out))
    assert bank.background is not None
    assert len(bank.background) == 16
    assert len(bank.items) == len(before.manifest.bank.items) + 10


def test_pictures_that_the_model_would_have_sorted_are_named(
    order: Order, compared: Path, foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in foreign.iterdir():
        file.unlink()
    for n in range(300, 306):
        (foreign / f"can-{n}.png").write_bytes(photo_of("can", n))
    asked = replace(order, bundle=compared, out=compared.parent / "2", review=None)
    correct_bundle(replace(asked, background=foreign), COMMAND)
    told = capsys.readouterr().out
    found = re.search(r"of those that were added (\d+) would have been sorted, (.*): where", told)
    assert found
    assert int(found[1]) >= 4
    assert found[2].startswith("can-30")


def test_a_background_that_cannot_grow_is_refused(
    order: Order, compared: Path, foreign: Path
) -> None:
    with pytest.raises(
        ConfigError, match=r"expected a bundle with a background, got bins/1, "
    ) as e:
        correct_bundle(replace(order, review=None, background=foreign), COMMAND)
    named = re.search(r"superbin train (\S+) --data DIR --out RUN --set (\S+) and", str(e.value))
    assert named
    assert load_config(named[1]).matching.background  # which may have those that are shipped,
    assert load_config(named[1], [named[2]]).matching.background == str(foreign)  # or these
    for n in range(100, 110):
        (foreign / f"{n}.png").unlink()
    for n in range(4):
        (foreign / f"{n}.png").write_bytes(foreign_photo(n))
    alone = replace(order, bundle=compared, review=None, background=foreign)
    alone = replace(alone, out=compared.parent / "2")
    told = r"bins/1 would not change; background: 0 added, 6 to 6 pictures; in the background al"
    with pytest.raises(ConfigError, match=told):
        correct_bundle(alone, COMMAND)


def test_why_nothing_would_change_is_told(order: Order) -> None:
    assert order.review is not None
    labels = order.review.path / "labels.csv"
    named = [row.path for row in read_labels(labels) if row.split == "train"]
    for path in named:
        (order.review.path / path).unlink()
    told = rf"would not change; {len(named)} cannot be used: .*\(missing\)"
    with pytest.raises(ConfigError, match=told):
        correct_bundle(order, COMMAND)
    rows = labels.read_text().splitlines(keepends=True)
    labels.write_text("".join(row for row in rows if not row.rstrip().endswith(",train")))
    with pytest.raises(
        ConfigError, match=r"would not change; \d+ reviewed photos are held out, and"
    ):
        correct_bundle(order, COMMAND)
