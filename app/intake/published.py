"""Published data sets as records of a text set."""

from collections.abc import Iterator
from typing import Final

from app.contracts.presets import TextSetPreset
from app.errors import FieldError
from app.intake import hubble
from app.intake.formats import Row
from app.intake.source_rows import SourceRow

_DUPLICATES: Final = "duplicates"


def read_published(preset: TextSetPreset, rows: Iterator[Row]) -> Iterator[Row]:
    """The records that the rows of a preset's file come to; one row may come to several.

    Raises:
        ColumnMissing: a row lacks one of the preset's columns.
    """
    read_row = hubble.READ_ROW[preset.name]
    (duplicates,) = (path for path in preset.columns if path.rpartition(".")[2] == _DUPLICATES)
    for row in rows:
        if isinstance(row, FieldError):
            yield row
            continue
        pointer, columns = row
        source = SourceRow(columns)
        count = source.number(duplicates)
        for record in read_row(source):
            within = record.get("group")
            group = f"{preset.group}/{within}" if within else preset.group
            yield pointer, {**record, "duplicates": count, "member": count > 0, "group": group}
