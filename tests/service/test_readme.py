"""The guides keep up with the code that they describe."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.settings import PREFIX, Settings
from service.sites import Costs, Hazards, Site, parse_site

ROOT = Path(__file__).parents[2]
SETTINGS = (ROOT / "service" / "README.md").read_text(encoding="utf-8")
NAME = rf"\b{PREFIX}[A-Z0-9_]+(?![A-Z0-9_*])"  # SUPERBIN_REVIEW_* stands for several
GUIDES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "service").rglob("*.md"),
        *(ROOT / "training").glob("*.md"),
        *(ROOT / "tests").rglob("*.md"),
    ]
)


def test_every_setting_stands_in_the_table_with_its_description() -> None:
    for name, field in Settings.model_fields.items():
        (line,) = [
            row for row in SETTINGS.splitlines() if row.startswith(f"| `{PREFIX}{name.upper()}` ")
        ]
        assert field.description is not None
        assert field.description in line


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: str(guide.relative_to(ROOT)))
def test_no_guide_names_a_setting_that_does_not_exist(guide: Path) -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    named = set(re.findall(NAME, guide.read_text(encoding="utf-8")))
    assert named <= known


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: str(guide.relative_to(ROOT)))
def test_links_within_the_project_lead_somewhere(guide: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", guide.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (guide.parent / path).resolve() if path else guide
        assert file.exists(), target
        if anchor:
            assert anchor in _anchors(file.read_text(encoding="utf-8")), target


def test_the_guide_to_site_files_shows_one_that_is_read() -> None:
    guide = (ROOT / "service" / "rules" / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```yaml\n(.*?)```", guide, flags=re.S)
    site = parse_site(shown.encode(), "the guide")
    keys = set(re.findall(r"^([a-z]+):", shown, flags=re.M))
    told = {field.alias or name for name, field in Site.model_fields.items()}
    assert keys == told - {"coverage"}
    assert (site.costs.manual, site.costs.wrong) == (Costs().manual, Costs().wrong)
    assert site.hazards.threshold == Hazards().threshold


def _anchors(text: str) -> set[str]:
    """The names that headings have as targets of links: lower case, words joined by hyphens."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_column_and_option_of_many_photos_stands_in_their_guide() -> None:
    from service.bulk.columns import schema
    from service.bulk.spreadsheet import columns_of

    guide = (ROOT / "service" / "bulk" / "README.md").read_text(encoding="utf-8")
    names = schema(["<superclass>"]).names
    for name in {*names, *columns_of(names, by_site=True)}:
        assert f"`{name}`" in guide
    for option in ("site", "language", "json", "chunk", "restart", "add", "ray"):
        assert f"--{option}" in guide
