"""A row of numbers becomes an answer in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.bundle import GuideThing, read_bundle, read_manifest, write_manifest
from service.classifier import Answers, Classifier
from service.errors import BundleError
from service.results import InferenceError, Sorted, classification
from service.schemas import Classification, Doubt
from service.site_rules import read_rules
from service.sites import MANUAL, SHIPPED
from tests.tiny_bundle import SUPERCLASSES, add_guide, write_bundle
from tests.tiny_graph import SIZE


def answers_of(classifier: Classifier, probabilities: list[float]) -> Answers:
    blank = classifier.run(np.zeros((1, SIZE, SIZE, 3), np.uint8))
    return replace(blank, probabilities=np.array([probabilities], np.float32))


def test_the_most_probable_superclass_wins_and_references_have_words(
    classifier: Classifier,
) -> None:
    manifest = classifier.bundle.manifest
    result = classification(manifest, answers_of(classifier, [0.1, 0.2, 0.6, 0.1]), "x.jpg")
    assert result.superclass == "organic"
    assert result.confidence == 0.6
    assert list(result.probabilities) == list(SUPERCLASSES)
    assert result.filename == "x.jpg"
    first = result.references[0]
    assert first.id in {item.id for item in manifest.bank.items}
    assert first.source == "generated"
    assert 0 < result.self_weight < 1


def test_a_guide_has_its_share_of_what_a_photo_gives_to_itself(tmp_path: Path) -> None:
    path = write_bundle(tmp_path)
    plain = Classifier(read_bundle(path))
    blank = np.zeros((3, SIZE, SIZE, 3), np.uint8)
    assert plain.run(blank).things is None
    assert classification(plain.bundle.manifest, plain.run(blank)[1:2], None).guide == []
    add_guide(path)
    guided = Classifier(read_bundle(path))
    answers = guided.run(blank)[1:2]
    result = classification(guided.bundle.manifest, answers, None)
    assert [(thing.name, thing.superclass) for thing in result.guide] == [
        ("paint can", "hazardous"),
        ("mirror", "residual"),
    ]
    for thing, part in zip(result.guide, (0.5, 0.25), strict=True):
        assert thing.weight == pytest.approx(part * result.self_weight, abs=1e-6)


def test_a_guide_that_the_graph_or_the_superclasses_do_not_know_is_refused(tmp_path: Path) -> None:
    path = write_bundle(tmp_path)
    manifest = read_manifest(path)
    thing = GuideThing(name="mirror", superclass="residual")
    write_manifest(path, manifest.model_copy(update={"guide": (thing,)}))
    with pytest.raises(BundleError, match=r"lacks the outputs .*'thing_weights', 'things'"):
        Classifier(read_bundle(path))
    stray = GuideThing(name="mirror", superclass="elsewhere")
    write_manifest(path, manifest.model_copy(update={"guide": (stray,)}))
    with pytest.raises(BundleError, match=r"guide names superclasses .*\['elsewhere'\]"):
        read_bundle(path)


def test_an_answer_has_every_field_and_is_what_validation_would_make_of_it(tmp_path: Path) -> None:
    add_guide(path := write_bundle(tmp_path))
    classifier = Classifier(read_bundle(path))
    manifest = classifier.bundle.manifest
    rules = Sorted(read_rules(SHIPPED / "german-household.yaml"), "de")
    doubt = Doubt(reason="blurred", detail="x", measure=1.0, limit=2.0)
    answers = answers_of(classifier, [0.1, 0.2, 0.6, 0.1])
    for by in (None, rules):
        made = classification(manifest, answers, "x.jpg", by, [doubt])
        validated = Classification.model_validate(made.model_dump())
        assert made == validated
        assert made.model_fields_set == set(Classification.model_fields)
        assert made.model_dump_json() == validated.model_dump_json()
        for part in filter(None, (made.sorting, *made.references, *made.guide)):
            assert part.model_fields_set == set(type(part).model_fields)


@pytest.mark.parametrize(
    ("confidence", "decision"), [(0.75, "sort"), (0.7499, "manual"), (0.9, "sort"), (0.5, "manual")]
)
def test_the_threshold_decides_and_counts_as_reached(
    classifier: Classifier, tmp_path: Path, confidence: float, decision: str
) -> None:
    manifest = read_manifest(write_bundle(tmp_path, threshold=0.75))
    rest = (1 - confidence) / 3
    answers = answers_of(classifier, [confidence, rest, rest, rest])
    assert classification(manifest, answers, None).decision == decision


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_no_answer(classifier: Classifier, value: float) -> None:
    with pytest.raises(InferenceError, match="finite"):
        classification(
            classifier.bundle.manifest, answers_of(classifier, [value, 0.0, 0.0, 0.0]), None
        )


def test_a_doubted_photo_goes_to_a_person_by_the_threshold_and_by_a_sites_rules(
    classifier: Classifier,
) -> None:
    doubt = Doubt(reason="blurred", detail="expected more", measure=1.0, limit=5.0)
    answers = answers_of(classifier, [1.0, 0.0, 0.0, 0.0])
    manifest = classifier.bundle.manifest
    told = classification(manifest, answers, None, None, [doubt])
    assert (told.decision, told.doubts) == ("manual", [doubt])
    by = Sorted(read_rules(SHIPPED / "single-stream-line.yaml"), "en")
    told = classification(manifest, answers, None, by, [doubt])
    assert told.sorting
    assert (told.decision, told.sorting.bin) == ("manual", MANUAL)
    assert "doubt" in told.sorting.reasons
    assert classification(manifest, answers, None, by).decision == "sort"
