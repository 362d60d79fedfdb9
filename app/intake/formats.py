"""The formats a text set can be streamed in, each read row by row from a file with flat memory.

A reader yields, for each text, a JSON pointer to where it stands and the unvalidated record; for a row that
cannot be read but leaves the next ones readable, a field error. What makes the rest unreadable is raised.
"""

import codecs
import csv
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, Final, TypeAlias

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from app.contracts.texts import TextRecord
from app.errors import FieldError, ValidationFailed

Row: TypeAlias = tuple[str, object] | FieldError
Reader: TypeAlias = Callable[[BinaryIO, int], Iterator[Row]]

COLUMNS: Final = tuple(TextRecord.model_fields)
# Columns whose cells hold JSON when they are text.
JSON_COLUMNS: Final = frozenset({"duplicates", "member", "choices", "answer", "metadata"})
PARQUET_BATCH_ROWS: Final = 1
PARQUET_BUFFER_BYTES: Final = 2**20


def read_json_lines(file: BinaryIO, max_record: int) -> Iterator[Row]:
    """JSON lines: a record a line, blank lines skipped. Pointers are `/lines/1` for the first line.

    Raises:
        ValidationFailed: a line is longer than `max_record` bytes.
    """
    for number, line in enumerate(_lines(file, max_record), start=1):
        if line.isspace():
            continue
        pointer = f"/lines/{number}"
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            yield FieldError(pointer, "json_invalid")
        else:
            yield pointer, record


def read_csv(file: BinaryIO, max_record: int) -> Iterator[Row]:
    """CSV in UTF-8 under a header of field names. Pointers name the line a record begins in, from `/lines/1`.

    An empty cell is an absent value; cells of `duplicates`, `member`, `choices`, `answer` and `metadata`
    hold JSON.

    Raises:
        ValidationFailed: bad quoting, bad UTF-8, an unknown column, a line of more than `max_record` bytes or
            a cell of more characters.
    """
    csv.field_size_limit(max_record)
    lines = (line.decode() for line in _lines(file, max_record))
    reader = csv.reader(lines, strict=True)
    try:
        columns = _known_columns(next(reader, []))
        begins = reader.line_num + 1
        for cells in reader:
            pointer, begins = f"/lines/{begins}", reader.line_num + 1
            if len(cells) > len(columns):
                yield FieldError(pointer, "too_many_cells")
            elif cells:
                present = zip(columns, cells, strict=False)
                yield pointer, {column: _cell(column, cell) for column, cell in present if cell}
    except csv.Error:
        raise _unreadable(f"/lines/{reader.line_num}", "csv_invalid") from None
    except UnicodeDecodeError:
        raise _unreadable(f"/lines/{reader.line_num + 1}", "utf8_invalid") from None


def read_parquet(file: BinaryIO, max_record: int) -> Iterator[Row]:
    """Parquet whose columns are fields of a record. Pointers are `/rows/0` for the first row.

    `choices` is a list of strings, `metadata` a struct; text in them, in `duplicates`, `member` or `answer`
    is read as JSON. Rows are read one at a time, and a value that a row repeats is read once. A row of
    more than `max_record` bytes is an error of its own.

    Raises:
        ValidationFailed: not Parquet, an unknown column, or a value that Python cannot hold.
    """
    try:
        parquet = pq.ParquetFile(
            file,
            buffer_size=PARQUET_BUFFER_BYTES,
            pre_buffer=False,
            read_dictionary=_nested_byte_columns(pq.ParquetFile(file).schema),
        )
        columns = _known_columns(parquet.schema_arrow.names)
        for ordinal, batch in enumerate(_parquet_batches(parquet)):
            if _size(batch) > max_record:
                yield FieldError(f"/rows/{ordinal}", "record_too_large")
            else:
                (record,) = batch.to_pylist()
                yield f"/rows/{ordinal}", {column: _cell(column, record[column]) for column in columns}
    except (pa.ArrowException, OSError, ValueError, OverflowError, LookupError):
        raise _unreadable("", "parquet_invalid") from None


def _nested_byte_columns(schema: pq.ParquetSchema) -> list[str]:
    leaves = (schema.column(place) for place in range(len(schema)))
    return [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY" and "." in leaf.path]


def _parquet_batches(parquet: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    """Batches that end with their row group: Arrow cannot join the dictionaries of nested columns."""
    for group in range(parquet.num_row_groups):
        yield from parquet.iter_batches(PARQUET_BATCH_ROWS, row_groups=[group], use_threads=False)


def _size(batch: pa.RecordBatch) -> int:
    return sum(map(_expanded_bytes, batch.columns))


def _expanded_bytes(array: pa.Array) -> int:
    """The bytes of an array's values once each place has a value of its own."""
    if isinstance(array, pa.ExtensionArray):
        return _expanded_bytes(array.storage)
    if isinstance(array, pa.DictionaryArray):
        lengths = pc.binary_length(array.dictionary).cast(pa.int64())
        return pc.sum(lengths.take(array.indices)).as_py() or 0
    if isinstance(array, pa.StructArray):
        return sum(map(_expanded_bytes, array.flatten()))
    if isinstance(array, (pa.ListArray, pa.LargeListArray, pa.FixedSizeListArray)):
        return _expanded_bytes(array.flatten())
    return int(array.nbytes)


READERS: Final[dict[str, Reader]] = {
    "application/jsonl": read_json_lines,
    "application/x-ndjson": read_json_lines,
    "text/csv": read_csv,
    "application/vnd.apache.parquet": read_parquet,
}


def _lines(file: BinaryIO, max_bytes: int) -> Iterator[bytes]:
    number = 1
    while line := file.readline(max_bytes + 1):
        if len(line) > max_bytes:
            raise _unreadable(f"/lines/{number}", "record_too_large")
        yield line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        number += 1


def _known_columns(names: Sequence[str]) -> Sequence[str]:
    errors = [
        FieldError(f"/columns/{place}", "duplicate_column" if name in COLUMNS else "unknown_column")
        for place, name in enumerate(names)
        if name not in COLUMNS or name in names[:place]
    ]
    if errors:
        raise ValidationFailed(f"The columns may be {', '.join(COLUMNS)}, each once.", errors)
    return names


def _cell(column: str, value: object) -> object:
    """The value of a cell. What should be JSON and is not stays text, which the contract then refuses."""
    if column not in JSON_COLUMNS or not isinstance(value, str):
        return value
    try:
        return orjson.loads(value.lower() if column == "member" else value)
    except orjson.JSONDecodeError:
        return value


def _unreadable(pointer: str, code: str) -> ValidationFailed:
    return ValidationFailed(
        "The body cannot be read; `errors` says where and why.", [FieldError(pointer, code)]
    )
