"""What a running application holds, in one typed place: `app.state.serving`."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from service.admission import Admission
from service.batching import Scheduler
from service.bundle import Manifest
from service.errors import SuperbinError
from service.metrics import Metrics
from service.schemas import BrokenModel, ModelInfo
from service.settings import Settings


class ModelUnknown(SuperbinError):
    """No model of this name and version is served."""

    reason = "unknown_model"


@dataclass
class Serving:
    """Made by the lifespan, read by the routes."""

    settings: Settings
    metrics: Metrics
    manifest: Manifest
    admission: Admission
    scheduler: Scheduler
    models: list[ModelInfo | BrokenModel]
    ready: bool = False

    def set_ready(self, ready: bool) -> None:
        """Welcome requests, or ask load balancers to send no more."""
        self.ready = ready
        self.metrics.ready(ready)


def serving(request: Request) -> Serving:
    """What the application of this request holds."""
    found: Serving = request.app.state.serving
    return found
