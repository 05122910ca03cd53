"""A candidate follows where it is worse on nothing, and is refused where it is."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from inspect import signature
from pathlib import Path

import pytest
from PIL import Image

from service.bundle import read_manifest, write_manifest
from service.catalogue import open_bundle
from service.classifier import Classifier
from service.self_test import check_answers
from tests.tiny_matching import KINDS, SPLITS, photo_of, write_bundle, write_photos
from tests.training.test_whole_loop import superbin
from tests.training_runs import ConfigMaker
from training import versions_cli
from training.correct import Order, correct_bundle
from training.data.own import read_labels
from training.data.review import ReviewFolder
from training.errors import ConfigError, DataError
from training.evaluate import summarise
from training.outcome import measure
from training.paired import MARGIN
from training.promote import Contest, promote

COMMAND = "superbin promote candidate --over models/bins/2"


@pytest.fixture
def contest(tmp_path: Path) -> Contest:
    """A model without batteries that serves, and a whole one that is to follow."""
    models = tmp_path / "models"
    write_bundle(models, "1")
    over = write_bundle(models, "2", without=["battery"])
    candidate = write_bundle(tmp_path / "new", "7", drift=True)
    data = write_photos(tmp_path / "data")
    return Contest(candidate=candidate, over=over, data=data, report=tmp_path / "report")


def versions(contest: Contest) -> list[str]:
    return sorted(path.name for path in contest.over.parent.iterdir())


def test_a_better_one_becomes_the_next_version(
    contest: Contest, capsys: pytest.CaptureFixture[str]
) -> None:
    assert promote(contest, COMMAND)
    assert versions(contest) == ["1", "2", "3"]
    out = contest.over.parent / "3"
    bundle = open_bundle(out)
    check_answers(Classifier(bundle, threads=1))
    assert (out / "CARD.md").read_text().startswith("# bins/3\n")
    assert (out / "drift.npz").is_file()  # made of this model, so it stays
    report = (out / "PROMOTION.md").read_text()
    assert report.startswith("# bins/7 against bins/2: passed")
    assert "| hazardous | 8 | 50.0% " in report
    assert "| 0, 4 | +50.0 (" in report
    figures = json.loads((out / "promotion.json").read_text())
    (test,) = figures["compared"]
    assert test["superclasses"]["hazardous"]["gained"] == 4
    with Image.open(out / "promotion.png") as picture:
        assert min(picture.size) > 200
    told = capsys.readouterr().out.splitlines()[0]  # eight photos of hazardous, all won
    assert told.startswith("# bins/7 against bins/2: passed, with too few photos to be sure of ")
    assert "hazardous" not in told


def test_accuracy_has_the_interval_that_evaluate_gives_it(contest: Contest) -> None:
    assert promote(replace(contest, dry=True), COMMAND)
    assert contest.report is not None
    (test,) = json.loads((contest.report / "promotion.json").read_text())["compared"]
    for which, bundle in (("old", contest.over), ("new", contest.candidate)):
        figures = summarise(measure(bundle, contest.data, "test", None, "cpu"))
        assert test["overall"][which] == figures["accuracy"]
        assert test["overall"][f"{which}_interval"] == list(figures["accuracy_interval"])
    assert (
        "of accuracy, those of the recalls together"
        in (contest.report / "PROMOTION.md").read_text()
    )


def test_what_photos_enough_show_is_passed_and_no_more(contest: Contest) -> None:
    dry = replace(contest, dry=True, margin=0.6)
    assert promote(dry, COMMAND)
    assert contest.report is not None
    first = (contest.report / "PROMOTION.md").read_text().splitlines()[0]
    assert first == "# bins/7 against bins/2: passed"


def test_a_worse_one_is_refused_with_the_table(
    contest: Contest, capsys: pytest.CaptureFixture[str]
) -> None:
    worse = replace(contest, candidate=contest.over, over=contest.over.parent / "1")
    assert not promote(worse, COMMAND)
    assert versions(contest) == ["1", "2"]
    told = capsys.readouterr().out
    assert "refused: hazardous (test): 100.00% to 50.00%, -50.00% on 8 photos" in told
    assert contest.report is not None
    assert "refused" in (contest.report / "PROMOTION.md").read_text()


def test_the_margin_is_what_may_be_lost(contest: Contest) -> None:
    worse = replace(contest, candidate=contest.over, over=contest.over.parent / "1", dry=True)
    assert promote(replace(worse, margin=0.5), COMMAND)
    assert not promote(replace(worse, margin=0.49), COMMAND)
    with pytest.raises(ConfigError, match="expected a margin from 0 to below 1"):
        promote(replace(worse, margin=1.0), COMMAND)


def test_the_commands_margin_is_the_one_that_correct_warns_by() -> None:
    assert signature(versions_cli.promote).parameters["margin"].default == MARGIN


def test_a_dry_run_writes_nothing_but_the_report(contest: Contest) -> None:
    assert promote(replace(contest, dry=True), COMMAND)
    assert versions(contest) == ["1", "2"]
    assert contest.report is not None
    assert sorted(path.name for path in contest.report.iterdir()) == [
        "PROMOTION.md",
        "promotion.json",
        "promotion.png",
    ]


def test_held_out_reviewed_photos_count_too(contest: Contest, tmp_path: Path) -> None:
    """On the test split both may be level; people have seen what it does not show."""
    data = write_photos(tmp_path / "no-batteries", ["paint", "peel", "can", "paper", "mug"])
    review = write_photos(tmp_path / "review", ["battery"], {"train": 2, "test": 3}, first=100)
    worse = replace(
        contest, candidate=contest.over, over=contest.over.parent / "1", data=data, dry=True
    )
    assert promote(worse, COMMAND)
    assert not promote(replace(worse, review=ReviewFolder(review)), COMMAND)
    assert contest.report is not None
    report = (contest.report / "PROMOTION.md").read_text()
    assert "Reviewed, held out: 3 photos" in report
    assert "hazardous (reviewed, held out, 3 photos: 33.3 points each)" in report


def test_held_out_reviewed_photos_that_are_missing_are_no_pass(
    contest: Contest, tmp_path: Path
) -> None:
    review = write_photos(tmp_path / "review", ["battery"], {"train": 2, "test": 3}, first=100)
    asked = replace(contest, review=ReviewFolder(review, "sqlite:////review.db"))
    assert promote(replace(asked, dry=True), COMMAND)
    held_out = [p for p in read_labels(review / "labels.csv") if p.split == "test"]
    (review / held_out[0].path).unlink()
    told = "sqlite:////review.db: the files of 1 held-out reviewed photos are missing"
    with pytest.raises(DataError, match=told):
        promote(asked, COMMAND)
    assert versions(contest) == ["1", "2"]


def test_other_superclasses_cannot_be_compared(contest: Contest) -> None:
    manifest = read_manifest(contest.candidate)
    renamed = ("compost", *manifest.superclasses[1:])
    items = [
        item.model_copy(update={"superclass": "compost"})
        if item.superclass == "hazardous"
        else item
        for item in manifest.bank.items
    ]
    bank = manifest.bank.model_copy(update={"items": tuple(items)})
    write_manifest(
        contest.candidate, manifest.model_copy(update={"superclasses": renamed, "bank": bank})
    )
    with pytest.raises(ConfigError, match="clients would meet other answers"):
        promote(contest, COMMAND)
    assert versions(contest) == ["1", "2"]


def test_a_model_is_never_promoted_over_itself(contest: Contest, tmp_path: Path) -> None:
    twin = tmp_path / "elsewhere" / "bins" / "9"
    shutil.copytree(contest.over, twin)
    write_manifest(twin, read_manifest(twin).model_copy(update={"version": "9"}))
    for candidate in (contest.over, twin):
        with pytest.raises(ConfigError, match=r"another model than bins/2, got .* nothing to pro"):
            promote(replace(contest, candidate=candidate), COMMAND)
    assert versions(contest) == ["1", "2"]


def test_a_model_that_knows_the_photos_it_is_measured_by_is_refused(
    contest: Contest, tmp_path: Path
) -> None:
    review = write_photos(tmp_path / "review", ["battery"], {"train": 5}, first=100)
    out = contest.over.parent.parent.parent / "candidates" / "bins" / "1"
    correct_bundle(Order(bundle=contest.over, out=out, review=ReviewFolder(review)), COMMAND)
    labels = (review / "labels.csv").read_text()
    (review / "labels.csv").write_text(labels.replace(",train", ",test"))
    with pytest.raises(ConfigError, match="has 5 of the photos that it is measured by in its bank"):
        promote(replace(contest, candidate=out, review=ReviewFolder(review)), COMMAND)


def corrected_by_test_photos(contest: Contest, folder: Path, kinds: dict[str, int]) -> Path:
    """A bundle whose bank has so many of test's photos of some kinds, under other names."""
    first = SPLITS["train"] + SPLITS["val"]  # the number of test's first photo
    labels = ["path,superclass,subclass"]
    (folder / "seen").mkdir(parents=True)
    for kind, photos in kinds.items():
        for number in range(first, first + photos):
            path = f"seen/{kind}-again-{number}.png"
            (folder / path).write_bytes(photo_of(kind, number))
            labels.append(f"{path},{KINDS[kind][0]},{kind}")
    (folder / "labels.csv").write_text("\n".join(labels) + "\n", encoding="utf-8")
    out = folder / "bins" / "1"
    correct_bundle(Order(bundle=contest.over, out=out, review=ReviewFolder(folder)), COMMAND)
    return out


@pytest.mark.parametrize("served", [False, True])
def test_photos_that_either_bank_has_are_left_out_for_both(
    contest: Contest, tmp_path: Path, served: bool
) -> None:
    known = corrected_by_test_photos(contest, tmp_path / "known", {"battery": 2, "can": 1})
    asked = replace(contest, dry=True)
    asked = replace(asked, over=known) if served else replace(asked, candidate=known)
    assert promote(replace(asked, margin=0.5), COMMAND)
    assert contest.report is not None
    (test,) = json.loads((contest.report / "promotion.json").read_text())["compared"]
    assert test["left_out"] == 3
    assert test["overall"]["photos"] == 4 * len(KINDS) - 3
    assert test["superclasses"]["hazardous"]["photos"] == 8 - 2
    assert test["superclasses"]["organic"]["photos"] == 4
    told = "3 of 24 photos are left out for both models, since the bank of one of them has them"
    assert told in (contest.report / "PROMOTION.md").read_text()


@pytest.mark.parametrize("known", [{"battery": 3}, {"peel": 4}])
def test_where_the_banks_leave_too_few_photos_nothing_is_promoted(
    contest: Contest, tmp_path: Path, known: dict[str, int]
) -> None:
    candidate = corrected_by_test_photos(contest, tmp_path / "known", known)
    left = {"battery": "5 of 8 hazardous", "peel": "0 of 4 organic"}[next(iter(known))]
    with pytest.raises(DataError, match=f"near copies.* of what is left, {left}, too few can"):
        promote(replace(contest, candidate=candidate), COMMAND)
    assert versions(contest) == ["1", "2"]


def test_the_command_ends_with_one_where_it_refuses(contest: Contest, tmp_path: Path) -> None:
    words = ["promote", contest.over, "--over", contest.over.parent / "1", "--data", contest.data]
    refused = superbin(tmp_path, *words)
    assert refused.returncode == 1, refused.stderr
    assert "hazardous" in refused.stdout
    words = ["promote", contest.candidate, "--over", contest.over, "--data", contest.data]
    assert superbin(tmp_path, *words).returncode == 0
    assert versions(contest) == ["1", "2", "3"]
    missing = superbin(tmp_path, *words[:-1], tmp_path / "none")
    assert missing.returncode == 2


def test_a_candidate_that_has_learned_from_test_is_refused(
    contest: Contest, tiny_config: ConfigMaker
) -> None:
    """Its record draws other splits of photos whose labels name none."""
    labels = contest.data / "labels.csv"
    lines = [line.rpartition(",")[0] for line in labels.read_text().splitlines()]
    labels.write_text("\n".join(lines) + "\n")
    for path, share in ((contest.over, 0.4), (contest.candidate, 0.1)):
        manifest = read_manifest(path)
        record = tiny_config(data={"test_fraction": share}).model_dump(mode="json")
        provenance = manifest.provenance.model_copy(update={"config": record})
        bank = manifest.bank.model_copy(
            update={
                "items": tuple(
                    item.model_copy(update={"id": f"before/{place}"})
                    for place, item in enumerate(manifest.bank.items)
                )
            }
        )
        update = {"provenance": provenance, "bank": bank}
        write_manifest(path, manifest.model_copy(update=update))
    with pytest.raises(ConfigError, match=r"that are test by the record of bins/2 are train or"):
        promote(contest, COMMAND)
    assert versions(contest) == ["1", "2"]
