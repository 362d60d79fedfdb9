"""The formats of texts and scores in bulk."""

from pathlib import Path
from typing import Final, Literal

Format = Literal["jsonl", "csv", "parquet"]

MEDIA_TYPES: Final[dict[Format, str]] = {
    "jsonl": "application/jsonl",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
}
SUFFIXES: Final[dict[str, Format]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
}


def format_of(path: Path) -> Format | None:
    """The format that a file's name tells; None if it tells none."""
    return SUFFIXES.get(path.suffix.lower())
