"""Reviewed photos of no refuse: they join a bundle's background, and never its bank."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.bundle import read_bundle, read_manifest
from service.classifier import Classifier
from service.preprocess import decode
from service.review.opening import open_store
from service.review.records import Rules, Verdict
from tests.review_stores import new_photo
from tests.tiny_matching import (
    SPEC,
    SUPERCLASSES,
    foreign_photo,
    photo_of,
    write_bundle,
    write_photos,
)
from tests.training.test_whole_loop import superbin
from training.background_change import WITH_BACKGROUND, record_for
from training.correct import Order, correct_bundle
from training.data.photos import read_photos
from training.data.review import ReviewFolder, join_train, read_review
from training.doubt_reference import with_doubts
from training.errors import ConfigError, DataError
from training.records import load_config
from training.served_bank import ServedBank, served_bank

COMMAND = "superbin correct models/bins/1 --from-review /somewhere/review"
HEAD = "path,source,subclass,superclass,split"


def call_foreign(review: Path, numbers: Iterable[int], split: str) -> None:
    """Let a review have pictures of no kind, and list them as no refuse."""
    file = review / "no_refuse.csv"
    lines = file.read_text().splitlines() if file.is_file() else [HEAD]
    for n in numbers:
        (review / f"photos/foreign-{n}.png").write_bytes(foreign_photo(n))
        lines.append(f"photos/foreign-{n}.png,hall-2,,,{split}")
    file.write_text("\n".join(lines) + "\n")


def move(review: Path, path: str, origin: str, to: str, superclass: str) -> None:
    """Take a photo out of one list of a review, and list it in another."""
    with (review / origin).open(newline="") as file:
        rows = list(csv.reader(file))
    (moved,) = [row for row in rows if row[0] == path]
    for name, those in ((origin, [row for row in rows if row[0] != path]), (to, None)):
        with (review / name).open("a" if those is None else "w", newline="") as file:
            csv.writer(file).writerows(those or [[path, "hall-2", "", superclass, moved[-1]]])


def bank_of(path: Path) -> ServedBank:
    return served_bank(read_bundle(path))


def pictures(path: Path) -> int:
    found = bank_of(path).background
    return 0 if found is None else len(found)


def familiarity(path: Path, photos: list[bytes]) -> np.ndarray:
    pixels = np.stack([decode(photo, SPEC) for photo in photos])
    found = Classifier(read_bundle(path), threads=1).run(pixels).familiarity
    assert found is not None
    return found


@pytest.fixture
def review(tmp_path: Path) -> Path:
    """Ten batteries and eight pictures of no kind to learn from; three and four are held out."""
    folder = write_photos(tmp_path / "review", ["battery"], {"train": 10, "test": 3}, first=100)
    call_foreign(folder, range(100, 108), "train")
    call_foreign(folder, range(200, 204), "test")
    return folder


@pytest.fixture
def compared(tmp_path: Path) -> Path:
    """A bundle that knows no battery, with a background of six pictures, and limits."""
    photos = read_photos(write_photos(tmp_path / "data"))
    path = write_bundle(tmp_path / "compared", without=["battery"], background=6)
    with_doubts(path, read_manifest(path), photos)
    return path


@pytest.fixture
def order(compared: Path, review: Path) -> Order:
    return Order(bundle=compared, out=compared.parent / "2", review=ReviewFolder(review))


def test_they_join_the_background_and_the_others_the_bank(
    order: Order, capsys: pytest.CaptureFixture[str]
) -> None:
    correct_bundle(order, COMMAND)
    told = capsys.readouterr().out
    assert "bank: 10 added, 0 removed" in told
    assert "background: 8 reviewed photos of no refuse added, 6 to 14 pictures" in told
    assert re.search(
        r"of those that were added 1 would have been sorted, review/photos/for.*: "
        "where they show what is to be sorted, review them anew, or things like them are",
        told,
    )
    assert "not sorted of reviewed photos of no refuse: 7 to 8 of 8" in told
    assert "not sorted of reviewed photos of no refuse, held out: 4 to 4 of 4" in told
    before, after = read_bundle(order.bundle), read_bundle(order.out)
    new = {item.id for item in after.manifest.bank.items} - {
        item.id for item in before.manifest.bank.items
    }
    assert new == {f"review/photos/battery-{n}.png" for n in range(100, 110)}
    assert pictures(order.out) == 14
    assert after.manifest.provenance.corrections[-1].background == 8
    assert "8 reviewed photos of no refuse added" in (order.out / "CARD.md").read_text()
    there = [foreign_photo(n) for n in range(100, 108)]
    assert (familiarity(order.out, there) < familiarity(order.bundle, there)).all()


def test_those_that_are_there_already_or_held_out_change_nothing(
    order: Order, review: Path
) -> None:
    shutil.copy(review / "photos/foreign-100.png", review / "photos/foreign-1000.png")
    with (review / "no_refuse.csv").open("a") as file:
        file.write("photos/foreign-1000.png,hall-2,,,train\n")
        file.write("photos/lost.png,hall-2,,,train\n")
        file.write("photos/text.png,hall-2,,,train\n")
    (review / "photos/text.png").write_text("no photo")
    correct_bundle(order, COMMAND)
    assert pictures(order.out) == 14
    again = replace(order, bundle=order.out, out=order.out.with_name("3"))
    with pytest.raises(ConfigError) as refused:
        correct_bundle(again, COMMAND)
    told = str(refused.value)
    assert "the bank of bins/2 would not change; 10 reviewed photos are in it already" in told
    assert "7 reviewed photos are held out, and never join" in told
    assert "background: 0 reviewed photos of no refuse added, 14 to 14 pictures" in told
    assert "in the background already, or twice: review/photos/foreign-100.png, " in told
    assert "2 cannot be used: review/photos/lost.png (missing), review/photos/text.png (" in told
    assert not again.out.exists()


def test_they_join_beside_a_folder_of_pictures(
    order: Order, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for n in (*range(300, 305), 100):  # and one that the review has as well
        (folder / f"{n}.png").write_bytes(foreign_photo(n))
    correct_bundle(replace(order, background=folder), COMMAND)
    told = capsys.readouterr().out
    assert "background: 6 added, 6 to 12 pictures" in told
    assert "background: 7 reviewed photos of no refuse added, 12 to 19 pictures" in told
    assert read_bundle(order.out).manifest.provenance.corrections[-1].background == 13


@pytest.mark.parametrize("name", ["refuse-guided", "refuse-words", "refuse-matching", "mine"])
def test_a_bundle_without_a_background_is_told_of_the_record_that_it_was_trained_by(
    tmp_path: Path, name: str
) -> None:
    bundle = read_bundle(write_bundle(tmp_path))
    told = bundle.manifest.provenance.model_copy(update={"config": {"name": name}})
    bundle = replace(bundle, manifest=bundle.manifest.model_copy(update={"provenance": told}))
    assert record_for(bundle) == ("refuse-matching" if name == "mine" else name)
    assert name == "mine" or (name in WITH_BACKGROUND and load_config(name).matching.background)


def test_a_bundle_without_a_background_takes_the_others_and_says_so(
    order: Order, review: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = write_bundle(tmp_path / "plain", without=["battery"])
    asked = replace(order, bundle=plain, out=plain.with_name("2"))
    correct_bundle(asked, COMMAND)
    told = capsys.readouterr().out
    assert "bank: 10 added, 0 removed" in told
    why = (
        "left out: 8 reviewed photos of no refuse, since bins/1 has no background that they could "
        "join and cannot get one, whose graph compares with none: superbin train refuse-matching"
    )
    assert why in told
    assert why in (asked.out / "CARD.md").read_text()
    assert "not sorted of" not in told
    assert bank_of(asked.out).background is None
    (review / "labels.csv").write_text(f"{HEAD}\n")  # nothing but those
    with pytest.raises(ConfigError) as refused:
        correct_bundle(replace(asked, out=plain.with_name("3")), COMMAND)
    assert "the bank of bins/1 would not change; 4 reviewed photos are held out" in str(
        refused.value
    )
    assert why in str(refused.value)


def test_a_verdict_that_was_changed_is_followed_either_way(
    order: Order, review: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    correct_bundle(order, COMMAND)
    first, other = "photos/battery-100.png", "photos/foreign-100.png"
    (review / other).write_bytes(photo_of("mug", 500))  # a slip: it is refuse
    correct_bundle(replace(order, out=order.out.with_name("3")), COMMAND)
    slipped = foreign_is_there(order.out.with_name("3"), photo_of("mug", 500))
    assert slipped
    move(review, first, "labels.csv", "no_refuse.csv", "")
    move(review, other, "no_refuse.csv", "labels.csv", "residual")
    capsys.readouterr()
    mended = replace(order, bundle=order.out.with_name("3"), out=order.out.with_name("4"))
    correct_bundle(mended, COMMAND)
    told = capsys.readouterr().out
    assert "bank: 1 added, 1 removed, 50 to 50 items" in told
    assert f"left the bank, since they are reviewed as no refuse: review/{first}" in told
    assert f"left the background, since they are reviewed as of a bin: review/{other}" in told
    assert "background: 1 reviewed photos of no refuse added, 13 to 14 pictures" in told
    ids = {item.id for item in bank_of(mended.out).items}
    assert f"review/{other}" in ids
    assert f"review/{first}" not in ids
    assert foreign_is_there(mended.out, (review / first).read_bytes())
    assert not foreign_is_there(mended.out, photo_of("mug", 500))


def test_a_photo_that_is_like_one_of_no_refuse_takes_its_place_in_the_bank(
    order: Order, review: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    correct_bundle(order, COMMAND)
    old, new = "photos/battery-100.png", "photos/like-it.png"
    with Image.open(review / old) as image:
        image.putpixel((0, 0), (1, 2, 3))
        image.save(review / new)
    move(review, old, "labels.csv", "no_refuse.csv", "")
    with (review / "labels.csv").open("a") as file:
        file.write(f"{new},hall-2,battery,hazardous,train\n")
    capsys.readouterr()
    mended = replace(order, bundle=order.out, out=order.out.with_name("3"))
    correct_bundle(mended, COMMAND)
    told = capsys.readouterr().out
    assert "bank: 1 added, 1 removed, 50 to 50 items" in told
    assert f"left the bank, since they are reviewed as no refuse: review/{old}" in told
    left_out = f"since the bank has them: review/{old} is review/{new}"
    assert f"left out of the background, {left_out}" in told
    ids = {item.id for item in bank_of(mended.out).items}
    assert (f"review/{new}" in ids, f"review/{old}" in ids) == (True, False)
    again = replace(order, bundle=mended.out, out=order.out.with_name("4"))
    with pytest.raises(ConfigError, match="would not change; 10 reviewed") as refused:
        correct_bundle(again, COMMAND)
    assert left_out in str(refused.value)


def foreign_is_there(path: Path, photo: bytes) -> bool:
    """Whether a bundle's background has a photo."""
    pixels = decode(photo, SPEC)[np.newaxis]
    row = Classifier(read_bundle(path), threads=1).run(pixels).embedding[0]
    background = bank_of(path).background
    assert background is not None
    return bool((background @ row > 0.999).any())


def test_what_measures_is_not_learned(
    order: Order, compared: Path, review: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = compared.parents[2] / "data"
    (val,) = [p for p in read_photos(data).split("val") if p.path.endswith("mug-008.png")]
    shutil.copy(data / val.path, review / "photos/foreign-100.png")
    shutil.copy(review / "photos/battery-100.png", review / "photos/foreign-101.png")
    correct_bundle(replace(order, data=data), COMMAND)
    told = capsys.readouterr().out
    assert "background: 6 reviewed photos of no refuse added, 6 to 12 pictures" in told
    assert "review/photos/foreign-100.png (a photo of val or test)" in told
    why = "of no refuse, and review/photos/battery-100.png, the same photo, of hazardous"
    assert f"review/photos/foreign-101.png ({why})" in told
    assert "of val " in told  # how many are unfamiliar now


def test_training_leaves_them_out_and_says_how_many(
    review: Path, tmp_path: Path, compared: Path
) -> None:
    data = read_photos(compared.parents[2] / "data")
    reviewed = read_review(ReviewFolder(review), SUPERCLASSES)
    assert [len(reviewed.no_refuse), len(reviewed.no_refuse_held_out)] == [8, 4]
    assert not {p.path for p in (*reviewed.learned, *reviewed.held_out) if "foreign" in p.path}
    joined = join_train(data, reviewed)
    assert not [photo for photo in joined.photos if "foreign" in photo.path]
    assert joined.review is not None
    assert (joined.review["photos"], joined.review["no_refuse"]) == (10, 8)
    assert joined.superclasses == data.superclasses


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"{HEAD}\nphotos/x.png,,,organic,train\n", "line 2: expected no superclass of no refuse"),
        (f"{HEAD}\n,,,,train\n", "line 2: path is required"),
        (f"{HEAD}\n../x.png,,,,train\n", "line 2: expected a path below the folder"),
        ("split\ntrain\n", r"expected the columns .* \(path at least\), each once, got split"),
    ],
)
def test_a_list_that_is_none_is_refused(review: Path, text: str, told: str) -> None:
    (review / "no_refuse.csv").write_text(text)
    with pytest.raises(DataError, match=rf"no_refuse\.csv.*{told}"):
        read_review(ReviewFolder(review), SUPERCLASSES)


def test_only_paths_are_needed(review: Path) -> None:
    (review / "no_refuse.csv").write_text("path\nphotos/foreign-100.png\n")
    (photo,) = read_review(ReviewFolder(review), SUPERCLASSES).no_refuse
    assert (photo.path, photo.source) == ("review/photos/foreign-100.png", "review")


def test_from_a_store_to_a_version_by_the_command(order: Order, tmp_path: Path) -> None:
    url, kept = f"sqlite:///{tmp_path}/review.db", tmp_path / "kept"
    rules = Rules(double_share=0.0, held_out_share=0.3)
    with open_store(url, str(kept), rules) as store:
        for n in range(100, 112):
            cat = store.add(new_photo(n, data=foreign_photo(n))).id
            store.review(cat, "anna", Verdict(None, no_refuse=True))
            tin = store.add(new_photo(n + 100, data=photo_of("battery", n))).id
            store.review(tin, "anna", Verdict("hazardous", "battery"))
        blurred = store.add(new_photo(300, data=foreign_photo(300))).id
        store.review(blurred, "anna", Verdict(None))  # of no use joins neither
        foreign = {f"review/{one.export_path}" for one in store.no_refuse() if not one.held_out}
        held_out = sum(one.held_out for one in store.no_refuse())
    assert 0 < held_out < 12
    words = ["correct", order.bundle, "--from-review", url, "--review-photos", kept]
    done = superbin(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    grown = f"{len(foreign)} reviewed photos of no refuse added, 6 to {6 + len(foreign)} pictures"
    assert f"background: {grown}" in done.stdout
    assert f"photos of no refuse, held out: {held_out} to {held_out} of {held_out}" in done.stdout
    assert pictures(order.out) == 6 + len(foreign)
    assert not foreign & {item.id for item in bank_of(order.out).items}
