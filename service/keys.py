"""API keys: who may ask, see kept photos, and change what is served. Only SHA-256 are stored.

    clients."line-4" = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    admins."ops" = "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"
    reviewers."anna" = "fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9"
    sites."line-4" = "single-stream-line"

Keys are 256 random bits, so that a plain hash keeps them: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import tomllib
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from service.errors import SuperbinError
from service.settings import SettingsError

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
NAME = r"[A-Za-z0-9._-]{1,64}"
Name = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]


class KeyRefused(SuperbinError):
    """No key came, or none that is known."""

    reason = "key_refused"


class AdminOff(SuperbinError):
    """No admin key is set, so that nobody may change what is served."""

    reason = "admin_off"


class AdminOnly(SuperbinError):
    """A client's key came where an admin's is needed."""

    reason = "admin_only"


class ReviewerOnly(SuperbinError):
    """A key came that is known and is not for review."""

    reason = "reviewer_only"


class ReviewerOff(SuperbinError):
    """No key for review is set: kept photos are not for everybody."""

    reason = "review_needs_keys"


class Keys(BaseModel):
    """SHA-256 of each key, by the name of its holder; and whose photos are of which site."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    clients: dict[Name, Digest] = Field(default_factory=dict)
    admins: dict[Name, Digest] = Field(default_factory=dict)
    reviewers: dict[Name, Digest] = Field(default_factory=dict)
    sites: dict[Name, Name] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        strays = set(self.sites) - set(self.clients) - set(self.admins)
        if strays:
            raise ValueError(f"sites: expected holders of a key, got {sorted(strays)}")
        return self

    def client(self, key: str | None) -> str | None:
        """The name of a key's holder; None where no key is asked for. An admin's key will do.

        Raises:
            KeyRefused: where keys are set and this is none of them.
        """
        if not self.clients:
            return None
        try:
            return _holder(key, [*self.clients.items(), *self.admins.items()])
        except KeyRefused:
            if not self.reviewers:
                raise
            reviewer = _holder(key, list(self.reviewers.items()))
            raise KeyRefused(
                f"expected a client's or an admin's key, got that of the reviewer {reviewer}"
            ) from None

    def admin(self, key: str | None) -> str:
        """The name of an admin key's holder.

        Raises:
            AdminOff, AdminOnly, KeyRefused: where none is set, or this is a client's, or nobody's.
        """
        if not self.admins:
            raise AdminOff(
                "expected an admin key, and none is set: make one with superbin key --admin, and "
                "name its file in SUPERBIN_KEYS_FILE"
            )
        try:
            return _holder(key, list(self.admins.items()))
        except KeyRefused:
            if not self.clients:
                raise
            client = _holder(key, list(self.clients.items()))
            raise AdminOnly(f"expected an admin's key, got that of the client {client}") from None

    def reviewer(self, key: str | None) -> str:
        """The name of a reviewer key's holder. An admin's key will do, a client's will not.

        Raises:
            ReviewerOff, ReviewerOnly, KeyRefused: where none is set, or this is a client's, or
                nobody's.
        """
        if not self.reviewers and not self.admins:
            raise ReviewerOff(
                "expected a reviewer's or an admin's key to be set, since kept photos are not for "
                "everybody, and there is none: make one with superbin key NAME --reviewer, and "
                "name its file in SUPERBIN_KEYS_FILE"
            )
        try:
            return _holder(key, [*self.reviewers.items(), *self.admins.items()])
        except KeyRefused:
            if not self.clients:
                raise
            client = _holder(key, list(self.clients.items()))
            raise ReviewerOnly(
                f"expected a reviewer's key (superbin key NAME --reviewer), got that of the client "
                f"{client}"
            ) from None


def _holder(key: str | None, known: list[tuple[str, str]]) -> str:
    digest = digest_of(key or "")
    holder = None
    for name, one in known:  # all of them, so that the time tells nothing
        if hmac.compare_digest(digest, one):
            holder = name
    if holder is None:
        came = "none" if key is None else "one that is not known"
        raise KeyRefused(f"expected a key as Authorization: Bearer or X-API-Key, got {came}")
    return holder


def digest_of(key: str) -> str:
    """SHA-256 as lower-case hex."""
    return hashlib.sha256(key.encode()).hexdigest()


def new_key() -> str:
    """256 random bits, in letters that survive a header."""
    return secrets.token_urlsafe(32)


def read_keys(file: Path | None) -> Keys:
    """The keys of a file; none where there is no file.

    Raises:
        SettingsError: where the file cannot be read or does not fit.
    """
    if file is None:
        return Keys()
    try:
        return Keys.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise SettingsError(f"SUPERBIN_KEYS_FILE: cannot read {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"SUPERBIN_KEYS_FILE: {file} is not TOML: {error}") from error
    except ValidationError as error:
        where = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        raise SettingsError(
            f"SUPERBIN_KEYS_FILE: {file}: expected lines clients.NAME, admins.NAME or "
            f'reviewers.NAME = "SHA-256 of the key", or sites.NAME = "SITE", got {where}'
        ) from error
