"""BentoML with its adaptive batching on; for `bentoml serve`."""

from typing import Any

import bentoml
import numpy as np
from PIL import Image as PILImage

from tests.benchmarks.rivals.model import SIZE, open_session, run


@bentoml.service(traffic={"timeout": 30}, workers=1)
class Bin:
    def __init__(self) -> None:
        self.session = open_session()

    @bentoml.api(batchable=True, max_batch_size=16, max_latency_ms=1000)
    def predict(self, file: list[PILImage.Image]) -> list[dict[str, Any]]:
        photos = [
            np.asarray(one.convert("RGB").resize(SIZE, PILImage.Resampling.BILINEAR))
            for one in file
        ]
        return run(self.session, np.stack(photos))
