"""A bundle is tried on photos of its own, by each of its variants."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.bundle import Bundle, SelfTest, read_bundle, write_manifest
from service.classifier import Classifier
from service.errors import BundleError
from service.models_folder import find_bundles
from service.self_test import FROM_ANOTHER, TOLERANCE, check_answers
from tests import tiny_matching

SHIPPED = list(find_bundles(Path(__file__).parents[2] / "models"))


def off_by(path: Path, error: float, *, others: bool) -> Bundle:
    """A bundle whose fp32 is said to have answered otherwise, by so much."""
    bundle = read_bundle(path)
    (case,) = bundle.manifest.self_test
    first, *rest = case.probabilities
    told = (first - error if first > 0.5 else first + error, *rest)
    wrong = SelfTest(
        file=case.file,
        probabilities=case.probabilities if others else told,
        others={"fp32": told} if others else {},
    )
    write_manifest(path, bundle.manifest.model_copy(update={"self_test": (wrong,)}))
    return read_bundle(path)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_each_variant_of_a_shipped_bundle_answers_its_own_photos(path: Path) -> None:
    """On a GPU fp32 runs, of which these bundles do not say what it answered."""
    bundle = read_bundle(path)
    for variant in bundle.manifest.variants:
        check_answers(Classifier(bundle, variant=variant))


@pytest.mark.parametrize("others", [True, False])
def test_a_variant_is_held_to_its_own_answers_where_they_are_known(
    tmp_path: Path, others: bool
) -> None:
    path = tiny_matching.write_bundle(tmp_path)
    allowed = TOLERANCE if others else FROM_ANOTHER
    check_answers(Classifier(off_by(path, 0.9 * allowed, others=others), variant="fp32"))
    with pytest.raises(BundleError, match=r"self-test-can.png on cpu \(fp32\): expected the prob"):
        check_answers(Classifier(off_by(path, 1.2 * allowed, others=others), variant="fp32"))


def test_the_default_is_held_to_its_own_whatever_others_answered(tmp_path: Path) -> None:
    path = tiny_matching.write_bundle(tmp_path)
    check_answers(Classifier(off_by(path, 0.5, others=True)))
    with pytest.raises(BundleError, match=r"on cpu \(int8\)"):
        check_answers(Classifier(off_by(path, 1.2 * TOLERANCE, others=False)))
