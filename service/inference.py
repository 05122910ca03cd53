"""What is asked for in the Open Inference Protocol, on its way to the scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from service.intake import Admitted, Futures
from service.photos import pixels_of
from service.tensors import Inference
from service.uploads import TooManyPhotos

INLINE_BYTES = 65_536  # a longer body is parsed on a thread, so that others need not wait for it


@contextmanager
def inferring(let_in: Admitted, asked: Inference, nbytes: int) -> Iterator[Futures]:
    """Hand over an admitted request's photos; at the end what is not answered is dropped.

    Args:
        nbytes: of the request.

    Raises:
        TooManyPhotos, QueueFull, Stopping: where so many do not fit.
    """
    settings, photos = let_in.held.settings, asked.photos
    if len(photos) > settings.max_photos:
        raise TooManyPhotos(
            f"expected at most {settings.max_photos} photos a request, got {len(photos)}"
        )
    let_in.settle(len(photos), nbytes)
    spec = let_in.model.manifest.preprocessing
    loads = [partial(pixels_of, photo, spec, settings.photo_limits) for photo in photos]
    with let_in.submitted(loads, photos) as outcomes:
        yield outcomes
