"""Many files to one Parquet file: resumable, in bounded memory, on one machine or several."""
