"""What can go wrong, in the words of the domain; `service.problems` alone maps it to statuses."""


class SuperbinError(Exception):
    """Base of every error whose message is meant to be read by a user."""


def forget_frames(error: BaseException) -> None:
    """Let go of the calls that an error and its causes came through, and of what those hold.

    An error that somebody keeps, and that was raised by a call which holds the keeper, would keep
    all of it, such as a photo, until the collector comes by.
    """
    one: BaseException | None = error
    while one is not None:
        one.__traceback__ = None
        one = one.__cause__ or one.__context__


class ComeBackLater(SuperbinError):
    """Not now; `retry_after_s`, in whole seconds, says when it may work."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PhotoError(SuperbinError):
    """A photo cannot be classified; `reason` is a short stable word for metrics and clients."""

    reason = "photo"


class PhotoEmpty(PhotoError):
    """No bytes came."""

    reason = "empty"


class PhotoTooLarge(PhotoError):
    """More bytes or more pixels than the limits allow."""

    reason = "too_large"


class PhotoUnsupported(PhotoError):
    """The bytes are in no image format that is accepted."""

    reason = "unsupported_format"


class PhotoBroken(PhotoError):
    """An accepted format, but truncated or corrupt."""

    reason = "broken"


class BundleError(SuperbinError):
    """A model bundle is missing, malformed, altered, or of another schema version."""


class ProviderError(SuperbinError):
    """The execution provider that was asked for is not the one that would run."""


class SeveralWorkers(SuperbinError):
    """A call that one process would carry out while the others serve on as before."""

    reason = "several_workers"


class FolderBusy(SuperbinError):
    """A folder cannot be worked in: another process is at it, or it cannot be written."""


class BulkError(SuperbinError):
    """A run over many files cannot begin, go on or end; says what to do about it."""
