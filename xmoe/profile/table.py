"""Examples and rows <-> Arrow tables: what workers are sent, send back, and what Parquet keeps.

The plain loop and the cluster end in the same rows because a row survives the round trip through an
Arrow table unchanged. A worker runs ``measure_block`` only; this module and its imports need
neither scikit-learn nor matplotlib nor Ray, so a worker starts fast.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from xmoe.audio.dataset import Example
from xmoe.audio.quarantine import Quarantined
from xmoe.profile.clip_stats import ClipStats, measure_example

Row = ClipStats | Quarantined

ARROW: dict[str, pa.DataType] = {
    "str": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "tuple[str, ...]": pa.list_(pa.string()),
    "tuple[float, ...]": pa.list_(pa.float64()),
}
STATS_FIELDS, EXAMPLE_FIELDS = (
    {field.name: ARROW[str(field.type).removesuffix(" | None")] for field in fields(record)}
    for record in (ClipStats, Example)
)
ERROR_FIELDS = dict.fromkeys(("error_code", "error_reason", "error_mend"), pa.string())
ROW_SCHEMA = pa.schema(list({**STATS_FIELDS, **ERROR_FIELDS}.items()))
EXAMPLE_SCHEMA = pa.schema(list(EXAMPLE_FIELDS.items()))
CLIPS_SCHEMA = pa.schema([("label", pa.string()), *STATS_FIELDS.items()])


def row_key(row: ClipStats) -> tuple[str, str, tuple[str, ...]]:
    """Sort key of rows, so that the order of arrival never matters."""
    return (row.clip_id, row.split, row.labels)


def quarantine_key(row: Quarantined) -> tuple[str, str, str]:
    return (row.filepath, row.code, row.reason)


def rows_to_table(rows: Sequence[Row]) -> pa.Table:
    """One table of readable and unreadable clips; an unreadable one has ``error_code``."""
    return pa.Table.from_pylist([_row_to_dict(row) for row in rows], schema=ROW_SCHEMA)


def table_to_rows(table: pa.Table) -> list[Row]:
    return [_dict_to_row(values) for values in table.to_pylist()]


def rows_to_parquet(stats: Iterable[ClipStats]) -> bytes:
    """The per-clip table as Parquet, sorted by clip; ``label`` joins ``labels`` for people."""
    values = [{"label": row.label, **vars(row)} for row in sorted(stats, key=row_key)]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(values, schema=CLIPS_SCHEMA), buffer, compression="zstd")
    return buffer.getvalue()


def parquet_to_rows(data: bytes) -> list[ClipStats]:
    """The rows of ``rows_to_parquet``; ValueError if the bytes are not such a table."""
    try:
        # read_table would import pandas where it is there: 70 MB of every router
        table = pq.ParquetFile(io.BytesIO(data)).read().select(list(STATS_FIELDS))
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise ValueError(f"not a table of clips: {str(error).splitlines()[0]}") from error
    return [_dict_to_stats(values) for values in table.to_pylist()]


def examples_to_table(examples: Sequence[Example]) -> pa.Table:
    return pa.Table.from_pylist([vars(example) for example in examples], schema=EXAMPLE_SCHEMA)


def table_to_examples(table: pa.Table) -> list[Example]:
    return [
        Example(**{**values, "labels": tuple(values["labels"])}) for values in table.to_pylist()
    ]


def measure_block(table: pa.Table, *, root: str) -> pa.Table:
    """Measure a table of examples; unreadable clips come back as rows with ``error_code``."""
    return rows_to_table([measure_example(Path(root), one) for one in table_to_examples(table)])


def _row_to_dict(row: Row) -> dict[str, Any]:
    if isinstance(row, ClipStats):
        return dict(vars(row))
    return dict(zip(("filepath", *ERROR_FIELDS), vars(row).values(), strict=True))


def _dict_to_row(values: dict[str, Any]) -> Row:
    if values["error_code"] is None:
        return _dict_to_stats({name: values[name] for name in STATS_FIELDS})
    return Quarantined(*(str(values[name]) for name in ("filepath", *ERROR_FIELDS)))


def _dict_to_stats(values: dict[str, Any]) -> ClipStats:
    lists = {name: tuple(values[name]) for name in ("labels", "psd_db")}
    return ClipStats(**{**values, **lists})
