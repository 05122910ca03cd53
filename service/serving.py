"""What a running application holds, in one typed place: `app.state.serving`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from starlette.requests import Request

from service.admission import Admission
from service.capture import Capture
from service.composition.recorder import Recorder
from service.keyring import Keyring
from service.keys import Keys
from service.metrics import Metrics
from service.quota import Quota
from service.registry import Registry
from service.rulebook import Rulebook
from service.settings import Settings
from service.shadow import Shadow


@dataclass
class Serving:
    """Made by the lifespan, read by the routes."""

    settings: Settings
    metrics: Metrics
    keyring: Keyring
    quota: Quota
    admission: Admission
    registry: Registry
    rulebook: Rulebook
    feedback_quota: Quota
    capture: Capture | None = None  # where photos are kept for review
    recorder: Recorder | None = None  # where answers are counted for reports
    shadow: Shadow | None = None
    welcome: bool = False  # from the end of the warm-up to the start of the shutdown
    let_go: bool = False  # of the models and the stores: all is written
    parsing: asyncio.Lock = field(
        default_factory=asyncio.Lock
    )  # long JSON, ten times as large then

    @property
    def keys(self) -> Keys:
        """Those in force now; others may be a moment later."""
        return self.keyring.keys

    async def set_shadow(self, shadow: Shadow | None) -> None:
        """Put another shadow in the place of the one before, or none."""
        before, self.shadow = self.shadow, shadow
        if before:
            await before.close()

    @property
    def stuck(self) -> bool:
        """Whether a thread of a model that serves does not end its turn."""
        turns = (model.scheduler.working_s for model in self.registry.served)
        return max(turns, default=0.0) > self.settings.stuck_s

    @property
    def ready(self) -> bool:
        """Whether requests are welcome, and would be answered."""
        return self.welcome and not self.stuck

    def set_ready(self, ready: bool) -> None:
        """Welcome requests, or ask load balancers to send no more."""
        self.welcome = ready
        self.metrics.ready(self.ready)


def serving(request: Request) -> Serving:
    """What the application of this request holds."""
    found: Serving = request.app.state.serving
    return found
