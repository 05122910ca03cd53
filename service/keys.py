"""API keys: who may ask, see kept photos, and change what is served. Only SHA-256 are stored.

    clients."line-4" = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    admins."ops" = "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"
    reviewers."anna" = "fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9"
    sites."line-4" = "single-stream-line"
    people."room" = ["anna", "ben"]

Keys are 256 random bits, so that a plain hash keeps them: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import tomllib
from collections.abc import Mapping
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
from service.validation import told_problems

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_REPEATED = re.compile(r"Cannot overwrite a value \(at line (\d+)")  # of tomllib
NAME = r"[A-Za-z0-9._-]{1,64}"
Name = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]
PERSON = r"[A-Za-z0-9._-]+( [A-Za-z0-9._-]+)*"
MOST_LETTERS = 64  # of a person's name
Person = Annotated[str, StringConstraints(pattern=f"^{PERSON}$", max_length=MOST_LETTERS)]


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


class ReviewerNameless(SuperbinError):
    """Nobody said who looks, or it was no name."""

    reason = "reviewer_nameless"


class ReviewerUnlisted(SuperbinError):
    """The key is not for the person who was named."""

    reason = "reviewer_unlisted"


class Keys(BaseModel):
    """SHA-256 of each key, by the name of its holder.

    Attributes:
        sites: whose photos are of which site.
        people: who looks at photos with a key; where it has nobody, whoever no other key has.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    clients: dict[Name, Digest] = Field(default_factory=dict)
    admins: dict[Name, Digest] = Field(default_factory=dict)
    reviewers: dict[Name, Digest] = Field(default_factory=dict)
    sites: dict[Name, Name] = Field(default_factory=dict)
    people: dict[Name, Annotated[tuple[Person, ...], Field(min_length=1)]] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        for name, whose, holders, given in (
            ("sites", "a client's or an admin's", {*self.clients, *self.admins}, self.sites),
            ("people", "a reviewer's or an admin's", {*self.reviewers, *self.admins}, self.people),
        ):
            if strays := sorted(set(given) - holders):
                came = ", ".join(map(self._who, strays))
                raise ValueError(f"{name}: expected holders of {whose} key, got {came}")
        return self

    def _who(self, name: str) -> str:
        sections = {"client": self.clients, "admin": self.admins, "reviewer": self.reviewers}
        kinds = [kind for kind, holders in sections.items() if name in holders]
        return f"the {kinds[0]} {name!r}" if kinds else f"{name!r}, who has no key"

    def client(self, key: str | None) -> str | None:
        """The name of a key's holder; None where no key is asked for. An admin's key will do.

        Raises:
            KeyRefused: where keys are set and this is none of them.
        """
        if not self.clients:
            return None
        found = _find(key, self.clients, self.admins)
        if found is None and (reviewer := _find(key, self.reviewers)):
            raise KeyRefused(
                f"expected a client's or an admin's key, got that of the reviewer {reviewer}"
            )
        return _known(found, key)

    def sender(self, client: str) -> str | None:
        """Whose a client's photos are; None where no keys are set, and so nobody is known."""
        return client if self.clients else None

    def spoken_for(self, key: str | None) -> str | None:
        """Whose photos alone a key's holder may say something of; None where of everybody's.

        Raises:
            KeyRefused: as `client`.
        """
        return None if _find(key, self.admins) else self.client(key)

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
        found = _find(key, self.admins)
        if found is None and (client := _find(key, self.clients)):
            raise AdminOnly(f"expected an admin's key, got that of the client {client}")
        return _known(found, key)

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
        found = _find(key, self.reviewers, self.admins)
        if found is None and (client := _find(key, self.clients)):
            raise ReviewerOnly(
                f"expected a reviewer's key (superbin key NAME --reviewer), got that of the client "
                f"{client}"
            )
        return _known(found, key)

    def person(self, holder: str, name: str | None) -> str:
        """Who looks at photos with a key: whoever is named, if the key is for them.

        Args:
            holder: of the key; it is they where nobody is named and the key is for nobody else.
            name: as it came; None where none did.

        Raises:
            ReviewerNameless: where that is no name, or the key is for several people.
            ReviewerUnlisted: where the key is not for them, or another key is.
        """
        own = self.people.get(holder, ())
        if name is None and len(own) > 1:
            raise ReviewerNameless(
                f"X-Reviewer: expected one of {', '.join(own)}, whom the key {holder} is for, got "
                "nothing"
            )
        named = (own[0] if own else holder) if name is None else name
        if len(named) > MOST_LETTERS or not re.fullmatch(PERSON, named):
            raise ReviewerNameless(
                f"X-Reviewer: expected who looks, in at most {MOST_LETTERS} letters (A to Z), "
                "digits, dots, dashes and underscores, with single spaces between, got "
                f"{named[: MOST_LETTERS + 1]!r}"
            )
        if own and named not in own:
            raise ReviewerUnlisted(
                f"X-Reviewer: expected one of {', '.join(own)}, whom the key {holder} is for, got "
                f"{named!r}"
            )
        others = [one for one, people in self.people.items() if named in people]
        if not own and others:
            raise ReviewerUnlisted(
                f"X-Reviewer: expected somebody who has no other key, got {named!r}, whom the key "
                f"{others[0]} is for"
            )
        return named


def _find(key: str | None, *sections: Mapping[str, str]) -> str | None:
    """The holder of a key; None where it is in none of these sections."""
    digest = digest_of(key or "")
    holder = None
    for section in sections:
        for name, one in section.items():  # all of them, so that the time tells nothing
            if hmac.compare_digest(digest, one):
                holder = name
    return holder


def _known(holder: str | None, key: str | None) -> str:
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


def text_of(file: Path) -> str:
    """What a file of keys says.

    Raises:
        SettingsError: where it cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8-sig")  # Windows editors put a mark before it
    except OSError as error:
        raise SettingsError(f"SUPERBIN_KEYS_FILE: cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"SUPERBIN_KEYS_FILE: {file} is not TOML: {error}") from error


def parse_keys(text: str, file: Path) -> Keys:
    """The keys of a text; `file` is what errors call it.

    Raises:
        SettingsError: where it does not fit.
    """
    try:
        return Keys.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        told = _twice(str(error), text) or f"is not TOML: {error}"
        raise SettingsError(f"SUPERBIN_KEYS_FILE: {file} {told}") from error
    except ValidationError as error:
        where = told_problems(error.errors(), whole="the file")
        raise SettingsError(
            f"SUPERBIN_KEYS_FILE: {file}: expected lines clients.NAME, admins.NAME or "
            f'reviewers.NAME = "SHA-256 of the key", sites.NAME = "SITE", or people.NAME = [...]: '
            f"{where}"
        ) from error


def _twice(problem: str, text: str) -> str | None:
    """What to do about a name that stands there twice; None where that is not the problem."""
    found = _REPEATED.search(problem)
    if found is None:
        return None
    line = int(found[1])
    name = text.splitlines()[line - 1].partition("=")[0].strip()
    return (
        f"has {name} twice, the second time in line {line}: remove one of the two lines, or give "
        "one of the keys a name of its own"
    )
