"""Many files to one Parquet file: resumable, in bounded memory, on one machine or several."""

from service.errors import BulkError

try:
    import pyarrow as _  # noqa: F401
except ImportError as error:
    raise BulkError(
        "--out needs pyarrow, which is not installed. Install the extra `bulk`: "
        "pip install -c constraints.txt -e '.[bulk]' in the repository"
    ) from error
