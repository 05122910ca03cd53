"""Site files: what is read, and what is said of those that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from service import sites
from service.bundle import read_manifest
from service.languages import pick_language
from service.sites import MANUAL, MAX_BYTES, SiteError, find_sites, parse_site, read_site
from service.sorting import Sorter
from tests.tiny_site import TINY, site_text

SHIPPED = find_sites(sites.SHIPPED)
MODELS = sorted((Path(__file__).parents[2] / "models").glob("*/*"))


def refused(text: str) -> str:
    with pytest.raises(SiteError) as error:
        parse_site(text.encode(), "here.yaml")
    return str(error.value)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_sites_fit_the_bundled_models(file: Path) -> None:
    site, _ = read_site(file)
    assert len(site.languages) >= 2
    for model in MODELS:
        manifest = read_manifest(model)
        Sorter(site, manifest.superclasses)
        assert "hazardous" in site.hazards.superclasses
        assert site.superclasses["hazardous"] == MANUAL


def test_every_item_of_a_shipped_site_is_in_the_banks_that_have_all_photos() -> None:
    banks = [manifest.bank for manifest in map(read_manifest, MODELS)]
    for bank in (bank for bank in banks if bank.selection == "all"):
        kinds = {item.subclass for item in bank.items}
        for file in SHIPPED:
            site, _ = read_site(file)
            assert set(site.items) | set(site.hazards.items) <= kinds, file.stem


def test_there_are_three_of_them() -> None:
    assert [file.stem for file in SHIPPED] == [
        "city-four-bins",
        "german-household",
        "single-stream-line",
    ]


def test_a_site_is_read_as_it_is_written() -> None:
    site = parse_site(site_text().encode(), "tiny.yaml")
    assert list(site.bins) == ["mixed", "rest"]
    assert site.bins["mixed"].threshold == 0.6
    assert site.place("rest").name == {"en": "Rubbish", "de": "Restmüll"}
    assert site.place(MANUAL).colour == "#b71c1c"
    assert site.hazards.threshold == 0.05


def test_the_example_in_the_documentation_is_a_site() -> None:
    assert sites.__doc__ is not None
    example = sites.__doc__.split("\n\n")[1]
    assert parse_site(example.encode(), "two-bins.yaml").site == "two-bins"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"bins.mixed.colour": "green"}, "bins.mixed.colour"),
        ({"bins.mixed.threshold": 1.5}, "bins.mixed.threshold"),
        ({"bins.mixed.name.fr": "Tri"}, "bins.mixed.name: expected the languages ['en', 'de']"),
        ({"bins.manual": TINY["bins"]["rest"]}, "manual is no bin"),
        ({"superclasses.organic": "compost"}, "superclasses.organic: expected one of ['mixed'"),
        ({"items.newspaper": "paper"}, "items.newspaper: expected one of"),
        ({"costs.of": {"rest": {"paper": 1}}}, "costs.of.rest: expected bins of"),
        ({"costs.of": {"rest": {"rest": 1}}}, "what is in its own bin costs nothing"),
        ({"costs.of": {"rest": {"manual": 1}}}, "costs.of.rest: expected bins of"),
        ({"costs.manual": -1}, "costs.manual"),
        ({"costs.manual": float("nan")}, "costs.manual"),
        ({"hazards.superclasses": ["explosive"]}, "not under superclasses: ['explosive']"),
        ({"schema": 2}, "schema: expected 1, got 2"),
        ({"version": 2026.11}, "version: expected a valid string, got 2026.11"),
        ({"site": "a/b"}, "site: "),
        ({"colour": "#ffffff"}, "colour: expected no such field"),
        ({"languages": []}, "languages: expected a list that should have at least 1 item"),
        ({"languages": "en"}, 'languages: expected a list, got "en"'),
        ({"bins": ["mixed"]}, "bins: expected keys with values, got"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, object], told: str) -> None:
    assert told in refused(site_text(change))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "here.yaml: expected keys such as site: and bins:, got an empty file"),
        ("# nothing yet", "got an empty file"),
        ("- 1", "expected keys such as"),
        ("a: [", "in here.yaml, line 1, column 5"),
        ("a: 1\na: 2", "expected each key once, got 'a' again"),
        ("a: &x 1\nb: *x", "got an alias"),
        ("? [a]\n: b", "no YAML that is read here"),
        ("[" * 5000, "no YAML that is read here"),
        ("a: !!python/object/apply:os.system [ls]", "no YAML that is read here"),
        ("a: !!bool maybe", "no YAML that is read here: 'maybe'"),
        ("a: !!int ''", "no YAML that is read here"),
        ("a: !!timestamp soon", "no YAML that is read here"),
        ("\0", "in here.yaml, position 0"),
    ],
)
def test_what_is_no_site_is_refused(text: str, told: str) -> None:
    assert told in refused(text)


def test_a_file_is_named_after_its_site_and_bounded(tmp_path: Path) -> None:
    wrong = tmp_path / "other.yaml"
    wrong.write_text(site_text(), encoding="utf-8")
    with pytest.raises(SiteError, match="site: expected 'other' as the file is called, got 'tiny'"):
        read_site(wrong)
    huge = tmp_path / "tiny.yaml"
    huge.write_bytes(site_text().encode() + b"#" * MAX_BYTES)
    with pytest.raises(SiteError, match="expected at most 262,144 bytes"):
        read_site(huge)
    with pytest.raises(SiteError, match="cannot be read: No such file"):
        read_site(tmp_path / "none.yaml")


def test_hidden_files_are_no_sites(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yaml", ".c.yaml", "d.yml", "e.yaml~"):
        (tmp_path / name).touch()
    assert [file.name for file in find_sites(tmp_path)] == ["a.yaml", "b.yaml"]


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        (None, "en"),
        ("", "en"),
        ("de", "de"),
        ("de-AT, en;q=0.5", "de"),
        ("fr, en;q=0.2, de;q=0.7", "de"),
        ("de;q=0, en;q=0.1", "en"),
        ("*", "en"),
        ("pt-PT", "pt-BR"),
        ("de;q=much", "en"),
        (";;;,,,=", "en"),
        ("DE", "de"),
    ],
)
def test_the_language_that_is_liked_best(accepted: str | None, language: str) -> None:
    offered = ["en", "de"] if language != "pt-BR" else ["en", "pt"]
    found = pick_language(accepted, offered)
    assert found == ("pt" if language == "pt-BR" else language)


def test_the_tiny_site_is_yaml_that_people_write() -> None:
    assert yaml.safe_load(site_text()) == TINY
