"""A site's thresholds from labelled photos: against brute force, a library, and as served."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapie.classification import SplitConformalClassifier
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin
from typer.testing import CliRunner

from service.cli import add_commands, app
from service.site_rules import read_rules
from service.sites import SiteError, read_site
from service.sorting import Sorter
from tests import tiny_matching
from tests.tiny_bundle import SUPERCLASSES, write_bundle
from tests.tiny_site import TINY, tiny_site, write_site
from training.data.photos import read_photos
from training.errors import ConfigError, DataError
from training.policy import (
    Evidence,
    assess,
    covered,
    curve,
    fit_coverage,
    fit_thresholds,
    gather,
    lowest_threshold,
)
from training.policy_report import report, tell
from training.policy_report import write_site as rewrite_site

PLAIN = {
    "hazards.superclasses": [],
    "superclasses.hazardous": "rest",
    "costs.manual": 0.9,
    "bins.mixed.threshold": 0.0,
}


def evidence(n: int = 400, seed: int = 0, changes: dict[str, object] | None = None) -> Evidence:
    """Photos whose bin is drawn with the probabilities that are told: a calibrated model."""
    random = np.random.default_rng(seed)
    two = random.beta(0.4, 0.4, n)
    probabilities = np.stack([two, 1.0 - two, np.zeros(n)], axis=1)
    true = (random.random(n) > two).astype(int)
    sorter = Sorter(tiny_site(PLAIN | (changes or {})), SUPERCLASSES)
    return Evidence("val", sorter, probabilities, np.zeros(n), true, np.zeros(n, bool))


def test_what_choices_come_to_is_counted() -> None:
    one = Evidence(
        "val",
        Sorter(tiny_site({"costs.of": {"rest": {"mixed": 2.0}}}), SUPERCLASSES),
        np.array([[0.9, 0.1, 0.0]] * 4),
        np.zeros(4),
        np.array([0, 1, 1, 0]),
        np.zeros(4, bool),
    )
    found = assess(one, np.array([0, 0, 2, 1]))  # right, a mistake of 2, a person, a mistake of 1
    assert (found.sorted, found.wrong, found.manual) == (3, 2, 0.25)
    assert found.error_rate == pytest.approx(2 / 3)
    assert found.contamination == pytest.approx(3.0 / 4)
    assert found.cost == pytest.approx(3.3 / 4)
    assert math.isnan(assess(one, np.full(4, 2)).error_rate)


def test_choices_are_those_of_the_service() -> None:
    one = evidence(changes={"bins.mixed.threshold": 0.8, "bins.rest.threshold": 0.65})
    rules = one.sorter
    thresholds = np.array([0.8, 0.65])
    made = []
    for mixed, rest, _ in one.probabilities:
        choice = rules.choose([mixed, rest, 0.0, 0.0], []).choice
        made.append(rules.choices.index(choice))
    assert one.choices(thresholds).tolist() == made


def test_hazards_go_to_a_person_whatever_the_thresholds() -> None:
    one = evidence(changes={"hazards.superclasses": ["hazardous"]})
    risky = Evidence(
        "val", one.sorter, one.probabilities, np.full(len(one), 0.06), one.true, one.doubted
    )
    assert (risky.choices(np.zeros(2)) == 2).all()
    assert not (one.choices(np.zeros(2)) == 2).any()
    doubted = Evidence("val", one.sorter, one.probabilities, one.hazard, one.true, one.true == 1)
    assert ((doubted.choices(np.zeros(2)) == 2) == (one.true == 1)).all()


def test_the_curve_goes_from_everything_sorted_to_nothing() -> None:
    policies = curve(evidence())
    manual = [policy.manual for policy in policies]
    assert manual[0] == 0.0
    assert manual == sorted(manual)
    assert policies[-1].sorted == 0
    contamination = [policy.contamination for policy in policies]
    assert contamination == sorted(contamination, reverse=True)


values = st.lists(st.tuples(st.sampled_from([0.2, 0.4, 0.6, 0.8, 1.0]), st.booleans()))


@given(values, st.sampled_from([0.0, 0.1, 0.3]))
def test_the_lowest_threshold_is_the_lowest(rows: list[tuple[float, bool]], rate: float) -> None:
    found = lowest_threshold(
        np.array([value for value, _ in rows]), np.array([right for _, right in rows]), rate
    )
    kept = {
        at: [right for value, right in rows if value >= at] for at in {value for value, _ in rows}
    }
    good = [at for at, rights in kept.items() if rights.count(False) / len(rights) <= rate]
    assert found == (min(good) if good else 1.0 if rows else 0.0)


def test_fitted_thresholds_keep_to_the_rate_in_every_bin() -> None:
    one = evidence()
    choices = one.choices(fit_thresholds(one, 0.05))
    for place in (0, 1):
        mine = choices == place
        assert mine.sum() > 30
        assert (one.true[mine] != place).mean() <= 0.05
    assert (
        assess(one, choices).error_rate <= 0.05 < assess(one, one.choices(np.zeros(2))).error_rate
    )


def test_a_bin_of_few_photos_is_not_trusted_with_a_lower_threshold() -> None:
    probabilities = np.array([[0.3, 0.7, 0.0]] * 100 + [[0.6, 0.4, 0.0]] * 5)
    true = np.array([0] * 20 + [1] * 80 + [0] * 5)
    one = Evidence(
        "val", evidence().sorter, probabilities, np.zeros(105), true, np.zeros(105, bool)
    )
    thresholds = fit_thresholds(one, 0.05)
    assert thresholds[0] == pytest.approx(1.0)  # what all bins together need


class Given(ClassifierMixin, BaseEstimator):
    """A classifier that is its own input, for MAPIE."""

    def __init__(self) -> None:
        self.classes_ = np.arange(2)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, x: np.ndarray, y: np.ndarray) -> Given:
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x.argmax(axis=1)

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return x


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
def test_sets_are_those_of_a_library(level: float) -> None:
    one, new = evidence(200), evidence(300, seed=1)
    oracle = SplitConformalClassifier(
        Given(), confidence_level=level, prefit=True, conformity_score="lac"
    )
    oracle.conformalize(one.probabilities[:, :2], one.true)
    _, sets = oracle.predict_set(new.probabilities[:, :2])
    assert (sets[:, :, 0] == (new.probabilities[:, :2] >= fit_coverage(one, level))).all()


def test_sets_cover_new_photos_as_often_as_they_promise() -> None:
    shares = []
    for seed in range(200):
        least = fit_coverage(evidence(100, seed=2 * seed), 0.9)
        shares.append(covered(evidence(100, seed=2 * seed + 1), least)[0])
    # Between 0.9 and 0.9 + 1 / 101 in the mean (Sadinle et al.); the spread of it is 0.003.
    assert 0.888 < np.mean(shares) < 0.922


def test_a_level_that_so_few_photos_cannot_promise_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a coverage of 0\.95 needs 19 photos .* has 18"):
        fit_coverage(evidence(18), 0.95)
    fit_coverage(evidence(19), 0.95)


def test_a_rewritten_site_keeps_its_comments(tmp_path: Path) -> None:
    source = write_site(tmp_path)
    text = "# Ours.\n" + source.read_text().replace("threshold: 0.6", "threshold: 0.6  # low")
    source.write_text(text)
    out = tmp_path / "new" / "mine.yaml"
    cover = {"level": 0.9, "least": 0.2, "split": "val", "photos": 10}
    rewrite_site(source, out, {"coverage": cover}, {"mixed": 0.75, "rest": 0.5})
    assert "# Ours." in out.read_text()
    assert re.search(r"threshold: 0\.75 +# low", out.read_text())
    site, _ = read_site(out)
    assert (site.site, site.bins["rest"].threshold) == ("mine", 0.5)
    assert site.coverage is not None
    assert site.languages == ("en", "de")


def test_a_bin_whose_name_has_dots_is_tuned_like_any_other(tmp_path: Path) -> None:
    bins = {"a.b": TINY["bins"]["mixed"], "rest": TINY["bins"]["rest"]}
    changes = {"bins": bins, "superclasses.recyclable": "a.b", "costs.of": {}}
    source, out = write_site(tmp_path, changes), tmp_path / "mine.yaml"
    rewrite_site(source, out, {"version": "2"}, {"a.b": 0.75, "rest": 0.5})
    site, _ = read_site(out)
    assert {name: one.threshold for name, one in site.bins.items()} == {"a.b": 0.75, "rest": 0.5}


@pytest.mark.parametrize("word", ["yes", "1", "1.0", "null", "2026-11-28"])
def test_a_version_or_name_may_be_a_word_that_yaml_reads_otherwise(
    tmp_path: Path, word: str
) -> None:
    out = tmp_path / f"{word}.yaml"
    rewrite_site(write_site(tmp_path), out, {"version": word}, {})
    site, _ = read_site(out)
    assert (site.site, site.version) == (word, word)


def test_a_site_that_is_none_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="version"):
        rewrite_site(write_site(tmp_path), tmp_path / "mine.yaml", {"version": ""}, {})
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.yaml"]


def test_where_nothing_is_sorted_there_is_no_error_rate() -> None:
    one = evidence(50)
    figures = report({"val": one}, np.array([1.0, 1.0]), None)
    assert figures["val"]["tuned"]["sorted"] == 0
    json.dumps(figures, allow_nan=False)
    assert re.search(r"val, tuned +100\.0% +0 +0 +none", tell(figures, one.sorter.site))


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Photos with the superclasses of the tiny bundle."""
    random = np.random.default_rng(0)
    lines = ["path,source,subclass,superclass,split"]
    for split, count in (("train", 2), ("val", 12), ("test", 8)):
        for superclass in SUPERCLASSES:
            for index in range(count):
                path = f"{split}/{superclass}-{index}.png"
                (tmp_path / "data" / split).mkdir(parents=True, exist_ok=True)
                pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / path)
                lines.append(f"{path},drawn,,{superclass},{split}")
    (tmp_path / "data" / "labels.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "data"


def test_the_command_writes_a_site_that_serves_with_pictures(
    labelled: Path, tmp_path: Path
) -> None:
    bundle = write_bundle(tmp_path / "models")
    source, out = write_site(tmp_path), tmp_path / "sites" / "mine.yaml"
    arguments = ["policy", "tune", str(source), "--data", str(labelled), "--bundle", str(bundle)]
    arguments += ["--out", str(out), "--error-rate", "0.2", "--coverage", "0.9"]
    add_commands(app)
    done = CliRunner().invoke(app, [*arguments, "--report", "test"])
    assert done.exit_code == 0, done.output
    site, _ = read_site(out)
    assert site.version == "1+val-0.2"
    assert site.coverage is not None
    assert site.coverage.photos == 48
    folder = out.with_suffix("")
    assert {file.name for file in folder.iterdir()} == {"policy.json", "policy.png", "bins.png"}
    figures = json.loads((folder / "policy.json").read_text())["figures"]
    assert not figures["val"]["tuned"]["sorted"] or figures["val"]["tuned"]["error_rate"] <= 0.2
    assert figures["test"]["coverage"]["mean_size"] > 0
    assert re.search(r"test, tuned +\d+\.\d%", done.output)
    refused = CliRunner().invoke(app, [*arguments[:-4], "--out", "mine.txt"])
    assert refused.exit_code == 2
    assert "expected a site file such as mine.yaml" in refused.output


def test_tuning_is_for_the_model_that_classify_takes(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("9", "10"):
        write_bundle(tmp_path / "models", version=version)
    monkeypatch.setenv("SUPERBIN_MODELS_DIR", str(tmp_path / "models"))
    add_commands(app)
    arguments = ["policy", "tune", str(write_site(tmp_path)), "--data", str(labelled), "--out"]
    for named, told in (("tiny", "tiny/10"), ("tiny/9", "tiny/9"), ("tiny,tiny/9", "tiny/10")):
        monkeypatch.setenv("SUPERBIN_MODEL", named)
        done = CliRunner().invoke(app, [*arguments, str(tmp_path / f"{len(named)}.yaml")])
        assert done.exit_code == 0, done.output
        assert f"{told} on val" in done.stderr
    none = CliRunner().invoke(app, [*arguments, "x.yaml", "--model", "other"])
    assert none.exit_code == 2
    assert "which has: tiny/9, tiny/10" in none.stderr


def test_photos_that_the_bank_has_are_no_evidence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tiny_matching.write_bundle(tmp_path / "models")
    data = tiny_matching.write_photos(tmp_path / "data")
    rules = read_rules(write_site(tmp_path))
    fair = gather(bundle, rules, read_photos(data), "val")
    assert "left out" not in capsys.readouterr().out
    tiny_matching.add_val(data, range(8))  # the bank's own
    again = gather(bundle, rules, read_photos(data), "val")
    for name in ("probabilities", "hazard", "true", "doubted"):
        np.testing.assert_array_equal(getattr(again, name), getattr(fair, name))
    assert "tiny on val: 48 of 66 photos are left out" in capsys.readouterr().out
    with pytest.raises(DataError, match="expected photos that the bank does not have, got 48"):
        gather(bundle, rules, read_photos(data), "train")


def test_tuning_does_not_overwrite_what_it_tunes(labelled: Path, tmp_path: Path) -> None:
    source = write_site(tmp_path)
    before = source.read_bytes()
    again = tmp_path / "again" / ".." / source.name
    (tmp_path / "again").mkdir()
    arguments = ["policy", "tune", str(source), "--data", str(labelled), "--out", str(again)]
    arguments += ["--bundle", str(write_bundle(tmp_path / "models"))]
    add_commands(app)
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 2
    assert "--out: expected another file than the one that is tuned, got" in refused.stderr
    assert source.read_bytes() == before


def test_tuning_needs_photos_of_its_split_and_no_others(labelled: Path, tmp_path: Path) -> None:
    """Not of every superclass, and none to train on."""
    file = labelled / "labels.csv"
    head, *lines = file.read_text().splitlines()
    kept = [line for line in lines if line.endswith((f"{SUPERCLASSES[0]},val", "hazardous,val"))]
    file.write_text("\n".join([head, *kept]) + "\n")
    source, out = write_site(tmp_path), tmp_path / "mine.yaml"
    arguments = ["policy", "tune", str(source), "--data", str(labelled), "--out", str(out)]
    arguments += ["--bundle", str(write_bundle(tmp_path / "models"))]
    add_commands(app)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert read_site(out)[0].version == "1+val-0.01"
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2
    assert f"{out} exists; name another, or give --overwrite" in again.stderr
    arguments.append("--overwrite")
    for where in ("--split", "--report"):
        refused = CliRunner().invoke(app, [*arguments, where, "test"])
        assert refused.exit_code == 2
        assert "has no photo in the split 'test', but 24 in val" in refused.stderr
        assert "tiny/1 on" not in refused.stderr  # told before any photo is answered
