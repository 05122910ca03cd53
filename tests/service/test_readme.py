"""README keeps up with the code that it describes."""

from __future__ import annotations

import re
from pathlib import Path

from service.settings import PREFIX, Settings

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_every_setting_stands_in_readme_with_its_description() -> None:
    for name, field in Settings.model_fields.items():
        (line,) = [
            row for row in README.splitlines() if row.startswith(f"| `{PREFIX}{name.upper()}` ")
        ]
        assert field.description is not None
        assert field.description in line


def test_readme_names_no_setting_that_does_not_exist() -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    named = set(re.findall(rf"\b{PREFIX}[A-Z0-9_]+\b", README))
    assert named <= known
