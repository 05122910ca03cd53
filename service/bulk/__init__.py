"""Many files to one, Parquet or CSV: resumable, in bounded memory, on one machine or several."""

from service.errors import BulkError
from service.extras import how_to_install

try:
    import pyarrow as _  # noqa: F401
except ImportError as error:
    raise BulkError(
        f"--out needs pyarrow, which is not installed: {how_to_install('bulk')}"
    ) from error
