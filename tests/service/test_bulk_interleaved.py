"""Rows of two files in one order, against a naive way."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.bulk.interleaved import interleaved, interleaved_tables


@pytest.mark.parametrize("seed", range(8))
def test_tables_of_any_size_are_interleaved_as_lists_are(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    old = [f"old {n}" for n in range(draw.choice([1, 5, 100]))]
    new = [f"new {n}" for n in range(draw.choice([1, 7, 100]))]
    places = np.array(sorted(draw.randint(0, len(old)) for _ in new), np.int64)
    expected = []
    for number in range(len(old) + 1):  # a naive way
        expected += [one for one, place in zip(new, places, strict=True) if place == number]
        expected += old[number : number + 1]
    assert list(interleaved(iter(old), new, places)) == expected
    files = [tmp_path / "old", tmp_path / "new 0", tmp_path / "new 1"]
    for path, values in zip(files, (old, new[:4], new[4:]), strict=True):
        things = [None if "7" in one else [{"name": one, "map": {one: 1}}] for one in values]
        kind = pa.list_(
            pa.struct({"name": pa.string(), "map": pa.map_(pa.string(), pa.int64())}.items())
        )
        pq.write_table(pa.table({"one": values, "things": pa.array(things, kind)}), path)
    size = draw.choice([1, 3, 64])
    tables = list(interleaved_tables(files[:1], files[1:], places, size))
    assert [one for table in tables for one in table["one"].to_pylist()] == expected
    assert all(len(table) == size for table in tables[:-1])
    for row in pa.concat_tables(tables).to_pylist():
        name = row["one"]
        assert row["things"] == (None if "7" in name else [{"name": name, "map": [(name, 1)]}])
