"""The keys in force: their file is read anew when it changes; a bad one leaves its old keys.

Workers share the keys that they took over last, in the folder of their metrics. A worker in the
place of one that has ended begins with those, whatever has become of the file.
"""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import structlog

from service.errors import SuperbinError
from service.keys import Keys, parse_keys, text_of
from service.metrics import Metrics
from service.rounds import every
from service.rulebook import Rulebook
from service.settings import SettingsError

log = structlog.get_logger()

SHARED = "keys.json"  # SHA-256 alone, in a folder that only the service's own user can open


class Keyring:
    """Every holder's key, and whose photos are of which site."""

    def __init__(self, file: Path | None, rulebook: Rulebook, metrics: Metrics) -> None:
        """Take what other workers have in force, or read the file where there are none.

        Args:
            file: without one there are no keys, and never will be.
            rulebook: has to have the sites that keys name, and keeps them from then on.

        Raises:
            SettingsError: where the file cannot be used, or a site has no rules.
        """
        self._file = file
        self._rulebook = rulebook
        self._metrics = metrics
        self._shared = metrics.folder / SHARED if file and metrics.folder else None
        self._text: str | None = None  # of the keys in force, where they are from the file
        self._refused: tuple[str | None, str] | None = None  # a text, and what is wrong with it
        shared = self._others()
        self.keys = shared or self._read()
        rulebook.require(self.sites)
        rulebook.need(self.keys.sites.values())
        if shared is None:
            self._share()

    @property
    def sites(self) -> dict[str, str | None]:
        """In use by the settings and the keys, by who names them; None is the default one."""
        return {"SUPERBIN_SITE": None} | _sites(self.keys)

    async def watch(self, every_s: float) -> None:
        """Read the file when it has changed; runs until it is cancelled."""
        await every(every_s, "looking for changed keys", self.look_aside)

    async def look_aside(self) -> None:
        """As `look`, on a thread."""
        await asyncio.to_thread(self.look)

    def look(self) -> None:
        """Take over the file's keys if they have changed and can be used.

        What it says is compared, and not its time or size: another SHA-256 is as long as the one
        before. A bad file is looked at in every round, since a site that it names may come.
        From any thread, but one at a time.
        """
        if self._file is None or _is_pipe(self._file):
            return
        text = None
        try:
            text = text_of(self._file)
            if text != self._text or self._refused:
                self._take_over(text, parse_keys(text, self._file))
        except SuperbinError as error:
            self._refuse(text, error)

    def _read(self) -> Keys:
        if self._file is None:
            return Keys()
        self._text = text_of(self._file)
        return parse_keys(self._text, self._file)

    def _take_over(self, text: str, keys: Keys) -> None:
        self._vet(keys)
        self._text, self._refused = text, None
        self._rulebook.need(keys.sites.values())
        self.keys = keys  # another thread may be reading them
        self._share()
        self._metrics.key_load("loaded")
        counts = {"clients": keys.clients, "admins": keys.admins, "reviewers": keys.reviewers}
        log.info("keys loaded", **{kind: len(holders) for kind, holders in counts.items()})

    def _vet(self, keys: Keys) -> None:
        """As at the start; and what is shut is not opened, as by a file that is half written.

        Raises:
            SettingsError: where a site has no rules, or no client's key is left.
            SiteUnfit: where a site cannot sort what the model says.
        """
        if self.keys.clients and not keys.clients:
            raise SettingsError(
                f"SUPERBIN_KEYS_FILE: {self._file}: expected a client's key, as before, since "
                "without any anybody may ask, got none; where that is wanted, start anew"
            )
        self._rulebook.require(_sites(keys))
        self._rulebook.vet_served(_sites(keys))

    def _refuse(self, text: str | None, error: SuperbinError) -> None:
        """Tell it once, and again where the file or what is wrong with it changes."""
        told = (text, str(error))
        if told == self._refused:
            return
        self._refused = told
        if isinstance(error.__cause__, FileNotFoundError):
            log.error("keys file gone, and its keys stay in force", error=str(error))
            return
        self._metrics.key_load("refused")
        log.error("keys refused, and those of before stay in force", error=str(error))

    def _others(self) -> Keys | None:
        """The keys that other workers have in force, if there are any."""
        if self._shared is None:
            return None
        try:
            return Keys.model_validate_json(self._shared.read_bytes())
        except FileNotFoundError:
            return None

    def _share(self) -> None:
        """For workers to come; rather none than old ones."""
        if self._shared is None:
            return
        part = self._shared.with_suffix(f".{os.getpid()}.part")
        try:
            self._shared.unlink(missing_ok=True)
            part.write_text(self.keys.model_dump_json(), encoding="utf-8")
            part.replace(self._shared)
        except OSError as error:
            log.error("keys not shared with workers to come", error=str(error))


def _sites(keys: Keys) -> dict[str, str | None]:
    return {f"key of {who}": name for who, name in keys.sites.items()}


def _is_pipe(file: Path) -> bool:
    """Whether it can be read once: to do so again would wait until somebody writes."""
    try:
        return stat.S_ISFIFO(file.stat().st_mode)
    except OSError:
        return False
