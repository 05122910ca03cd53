"""The tables (SQLAlchemy Core): counts by hour and place, and what each writer wrote last."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, MetaData, String, Table, Text

from service.composition.answer import CompositionUnavailable
from service.composition.tally import Key
from service.review.database import Schema

VERSION = 1


metadata = MetaData()
meta = Table(
    "composition_meta",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", Text, nullable=False),
)
# One row for each key of `service.composition.tally`; hours are seconds since 1970, UTC, and what
# was not told is "". The hour comes first in the primary key, for reports and for pruning.
counts = Table(
    "composition_counts",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    *(Column(name, Text, primary_key=True) for name in Key._fields[1:]),
    Column("photos", BigInteger, nullable=False),
    Column("expected_wrong", Double, nullable=False),
    Column("alerts", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
# So that a batch is added once, though nobody heard that it was.
writers = Table(
    "composition_writers",
    metadata,
    Column("writer", String(32), primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("written_at", BigInteger, nullable=False),
)

COMPOSITION = Schema(
    metadata, meta, VERSION, "composition", "SUPERBIN_TALLY_URL", CompositionUnavailable
)
