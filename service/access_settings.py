"""Who may ask: holders of keys, and pages of other origins."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, Field, field_validator

ORIGINS = r"(\*|https?://[^\s,/*]+(\s*,\s*https?://[^\s,/*]+)*)"
DEFAULT_PORT = re.compile(r"(?:(http://[^\s,]+):80|(https://[^\s,]+):443)(?=[\s,]|$)")


class AccessSettings(BaseModel):
    """Without any of them anybody may ask, and no page but the service's own."""

    keys_file: Path | None = Field(
        None, description="TOML file with API keys; without one anybody may ask."
    )
    cors_origins: str | None = Field(
        None,
        description="Origins whose pages may ask from a browser, by commas, such as "
        "https://app.example; * for any; none without.",
    )

    @field_validator("cors_origins")
    @classmethod
    def _known_origins(cls, origins: str | None) -> str | None:
        if origins is None:
            return None
        if not re.fullmatch(ORIGINS, origins, re.IGNORECASE):
            raise ValueError("expected origins such as https://app.example, by commas, or *")
        # As browsers send them: in lower case, and without a port that the scheme has anyway.
        return DEFAULT_PORT.sub(r"\1\2", origins.lower())

    @property
    def origins(self) -> tuple[str, ...]:
        """`cors_origins`, one by one."""
        parts = (self.cors_origins or "").split(",")
        return tuple(one.strip() for one in parts if one.strip())
