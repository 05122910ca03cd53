"""What a running application holds, in one typed place: `app.state.serving`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from starlette.requests import Request

from service.batching import Batcher
from service.bundle import Manifest
from service.metrics import Metrics
from service.schemas import BrokenModel, ModelInfo
from service.settings import Settings


@dataclass
class Serving:
    """Made by the lifespan, read by the routes."""

    settings: Settings
    metrics: Metrics
    manifest: Manifest
    batcher: Batcher
    decoders: ThreadPoolExecutor
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
