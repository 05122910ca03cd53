"""What the rivals share: decode as people write it, one ONNX Runtime session, a small answer."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from PIL import Image

BUNDLE = Path(os.environ["BENCHMARK_BUNDLE"])
MANIFEST = json.loads((BUNDLE / "manifest.json").read_text(encoding="utf-8"))
SUPERCLASSES = MANIFEST["superclasses"]
SIZE = MANIFEST["preprocessing"]["width"], MANIFEST["preprocessing"]["height"]
THREADS = len(os.sched_getaffinity(0))


def open_session() -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 3
    return ort.InferenceSession(
        str(BUNDLE / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )


def decode(data: bytes) -> Any:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return np.asarray(image.resize(SIZE, Image.Resampling.BILINEAR))


def run(session: ort.InferenceSession, photos: Any) -> list[dict[str, Any]]:
    (probabilities,) = session.run(["probabilities"], {"images": np.asarray(photos)})
    return [
        {"superclass": SUPERCLASSES[int(row.argmax())], "confidence": float(row.max())}
        for row in probabilities
    ]
