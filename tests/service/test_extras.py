"""What is said where packages are missing."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from service.extras import how_to_install

ROOT = Path(__file__).parents[2]
CALL = re.compile(r"how_to_install\(([^()]*)\)")


def sources() -> dict[Path, str]:
    files = [*(ROOT / "service").rglob("*.py"), *(ROOT / "training").rglob("*.py")]
    return {file: file.read_text(encoding="utf-8") for file in files}


def test_the_command_is_the_one_of_the_guide() -> None:
    command, where = how_to_install("cpu", "bulk").split(" in ")
    assert command in (ROOT / "service" / "bulk" / "README.md").read_text(encoding="utf-8")
    assert where == "the repository"


def test_every_hint_comes_from_one_place_and_names_extras_that_there_are() -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    found = sources()
    (own,) = [file for file, text in found.items() if "pip install" in text]
    assert own.name == "extras.py"
    calls = [call for file, text in found.items() if file != own for call in CALL.findall(text)]
    named = {name for call in calls for name in re.findall(r"['\"](\w+)['\"]", call)}
    assert named >= {"report", "review", "postgres", "s3", "bulk", "ray", "trace", "train", "grpc"}
    assert named <= set(known)
