"""What a run over many files says of its answers at its end."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from tests.bulk_command import classify, rows, set_up, write_doubting, write_photos
from tests.photo_factory import encode, noise

SITE = ["--site", "german-household", "--language", "de"]


@pytest.fixture(autouse=True)
def _photos(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Twelve of which two are dark and one is bad."""
    set_up(monkeypatch, write_doubting(tmp_path / "models"), tmp_path)
    folder = write_photos(tmp_path / "photos", range(9))
    for name in ("dark.jpg", "night.jpg"):
        (folder / name).write_bytes(encode(Image.new("RGB", (40, 40)), "JPEG"))
    (folder / "bad.jpg").write_bytes(noise(1)[:-300])


def test_superclasses_decisions_and_doubts_have_a_line_each() -> None:
    told = classify("photos", "--chunk", "5").stderr.splitlines()
    good = [row for row in rows() if row["error"] is None]
    for kind, column in (("superclasses", "superclass"), ("decisions", "decision")):
        counted = Counter(row[column] for row in good).most_common()
        assert f"{kind}: " + ", ".join(f"{word} {n}" for word, n in counted) in told
    doubts = Counter(one["reason"] for row in good for one in row["doubts"])
    assert doubts["too_dark"] == 2
    line = next(line for line in told if line.startswith("doubts: "))
    assert "too dark 2" in line
    assert not any(line.startswith(("bins: ", "a person looks")) for line in told)
    assert told[2:5] == classify("photos").stderr.splitlines()[1:4]  # whole already


def test_a_sites_bins_are_summed_up_by_name_with_why_a_person_looks() -> None:
    told = classify("photos", *SITE).stderr.splitlines()
    sorting = [row["sorting"] for row in rows() if row["error"] is None]
    bins = Counter(one["name"] for one in sorting).most_common()
    assert "bins: " + ", ".join(f"{name} {n}" for name, n in bins) in told
    reasons = Counter(reason for one in sorting for reason in one["reasons"])
    assert reasons["doubt"] >= 2
    (line,) = (line for line in told if line.startswith("a person looks because of: "))
    assert f"doubt {reasons['doubt']}" in line
    found = json.loads(classify("photos", *SITE, "--json").stdout)
    assert found["bins"] == Counter(one["bin"] for one in sorting)
    assert found["bin_names"] == {one["bin"]: one["name"] for one in sorting}
    assert found["reasons"] == reasons
