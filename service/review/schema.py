"""The store's tables (SQLAlchemy Core). Times are seconds since 1970, UTC."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
    text,
)

VERSION = 4
UPGRADES = {  # to the next version
    "1": ("ALTER TABLE review_votes ADD COLUMN bin VARCHAR(64)",),
    "2": (
        "ALTER TABLE review_sightings ADD COLUMN client VARCHAR(64)",
        "ALTER TABLE review_feedback ADD COLUMN client VARCHAR(64)",
    ),
    "3": (
        "ALTER TABLE review_photos ADD COLUMN label_no_refuse BOOLEAN NOT NULL DEFAULT FALSE",
        "ALTER TABLE review_votes ADD COLUMN no_refuse BOOLEAN NOT NULL DEFAULT FALSE",
        "ALTER TABLE review_feedback ADD COLUMN no_refuse BOOLEAN NOT NULL DEFAULT FALSE",
    ),
}

metadata = MetaData()
_Id = BigInteger().with_variant(Integer, "sqlite")


def _photo() -> Column[int]:
    return Column(
        "photo_id", _Id, ForeignKey("review_photos.id", ondelete="CASCADE"), nullable=False
    )


meta = Table(
    "review_meta",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", Text, nullable=False),
)
# One row for each photo, whoever sent it how often. Ids are never used again: a review that comes
# late must not meet another photo.
photos = Table(
    "review_photos",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("nbytes", Integer, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("kept_at", Double, nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("position", Integer, nullable=False),
    Column("reason", String(16), nullable=False),
    Column("model", String(160), nullable=False),
    Column("superclass", Text, nullable=False),
    Column("confidence", Double, nullable=False),
    Column("decision", String(16), nullable=False),
    Column("probabilities", JSON, nullable=False),
    Column("bank_references", JSON, nullable=False),
    Column("embedding", LargeBinary),
    Column("site", String(64)),
    Column("line", String(64)),
    Column("camera", String(64)),
    Column("held_out", Boolean, nullable=False),
    Column("base_wanted", Integer, nullable=False),  # people to ask
    Column("wanted", Integer, nullable=False),  # one more where they disagree
    Column("votes", Integer, nullable=False),  # that stand
    Column("leased_by", String(64)),
    Column("leased_until", Double),
    Column("settled", Boolean, nullable=False),
    Column("label", Text),  # None where it is of no use, or shows no refuse
    Column("label_subclass", Text),
    Column("label_item", Text),
    Column("label_no_refuse", Boolean, nullable=False, server_default=false()),
    Column("reviewed_at", Double),
    Index("review_photos_kept", "kept_at"),
    Index("review_photos_settled", "settled", "id"),
    sqlite_autoincrement=True,
)
# By which request a photo came; the same bytes may come by many.
sightings = Table(
    "review_sightings",
    metadata,
    Column("id", _Id, primary_key=True),
    _photo(),
    Column("request_id", String(128), nullable=False),
    Column("position", Integer, nullable=False),
    Column("at", Double, nullable=False),
    Column("client", String(64)),  # whose it is; None where nobody knows, or no keys were set
    Index("review_sightings_request", "request_id", "position"),
    Index("review_sightings_photo", "photo_id"),
    sqlite_autoincrement=True,
)
# Those that were taken back stay, with the time.
votes = Table(
    "review_votes",
    metadata,
    Column("id", _Id, primary_key=True),
    _photo(),
    Column("reviewer", String(64), nullable=False),
    Column("superclass", Text),
    Column("subclass", Text),
    Column("item", Text),
    Column("kind", String(16), nullable=False),
    Column("bin", String(64)),  # of the photo's site, where one was said
    Column("no_refuse", Boolean, nullable=False, server_default=false()),
    Column("at", Double, nullable=False),
    Column("undone_at", Double),
    Index(
        "review_votes_standing",
        "photo_id",
        "reviewer",
        unique=True,
        sqlite_where=text("undone_at IS NULL"),
        postgresql_where=text("undone_at IS NULL"),
    ),
    Index("review_votes_reviewer", "reviewer", "at"),
    sqlite_autoincrement=True,
)
# Files that may be there without a photo of theirs (`service.review.leftovers`).
leftovers = Table(
    "review_leftovers",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("at", Double, nullable=False),
)
skips = Table(
    "review_skips",
    metadata,
    Column("photo_id", _Id, ForeignKey("review_photos.id", ondelete="CASCADE"), primary_key=True),
    Column("reviewer", String(64), primary_key=True),
)
# Of photos that are not here, or not yet.
feedback = Table(
    "review_feedback",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("request_id", String(128), nullable=False),
    Column("position", Integer, nullable=False),
    Column("reviewer", String(64), nullable=False),
    Column("superclass", Text, nullable=False),  # empty where it is no refuse
    Column("subclass", Text),
    Column("item", Text),
    Column("no_refuse", Boolean, nullable=False, server_default=false()),
    Column("at", Double, nullable=False),
    Column("client", String(64)),  # of whose photos alone it counts; None where of everybody's
    Index("review_feedback_request", "request_id", "position"),
    sqlite_autoincrement=True,
)
