"""Examples and rows <-> Arrow tables: what workers are sent, send back, and what Parquet keeps.

The plain loop and the cluster end in the same rows because a row survives the way to an Arrow table
and back unchanged. ``measure_block`` is all that a worker runs; this module and what it imports
need neither scikit-learn nor matplotlib nor Ray, so a worker starts fast.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from xmoe.audio.clip import DecodeLimits
from xmoe.audio.dataset import Example
from xmoe.audio.quarantine import Quarantined
from xmoe.profile.clip_stats import ClipStats, measure_example

Row = ClipStats | Quarantined

STATS_FIELDS: dict[str, pa.DataType] = {
    "clip_id": pa.string(),
    "filepath": pa.string(),
    "start_s": pa.float64(),
    "end_s": pa.float64(),
    "labels": pa.list_(pa.string()),
    "split": pa.string(),
    "group": pa.string(),
    "sample_rate_hz": pa.int64(),
    "channels": pa.int64(),
    "bit_depth": pa.int64(),
    "format": pa.string(),
    "duration_s": pa.float64(),
    "peak": pa.float64(),
    "clipping_rate": pa.float64(),
    "content_sha256": pa.string(),
    "rms_db": pa.float64(),
    "kurtosis": pa.float64(),
    "silence_rate": pa.float64(),
    "fmin_eff_hz": pa.float64(),
    "fmax_eff_hz": pa.float64(),
    "snr_db": pa.float64(),
    "flatness": pa.float64(),
    "band_limit_hz": pa.float64(),
    "psd_db": pa.list_(pa.float64()),
}
ERROR_FIELDS: dict[str, pa.DataType] = {
    "error_code": pa.string(),
    "error_reason": pa.string(),
    "error_mend": pa.string(),
}
ROW_SCHEMA = pa.schema(list({**STATS_FIELDS, **ERROR_FIELDS}.items()))
EXAMPLE_SCHEMA = pa.schema(
    [
        ("filepath", pa.string()),
        ("split", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("group", pa.string()),
        ("row", pa.int64()),
    ]
)
CLIPS_SCHEMA = pa.schema([("label", pa.string()), *STATS_FIELDS.items()])


def row_key(row: ClipStats) -> tuple[str, str, tuple[str, ...]]:
    """Return what rows are sorted by, so that order of arrival never matters."""
    return (row.clip_id, row.split, row.labels)


def quarantine_key(row: Quarantined) -> tuple[str, str, str]:
    """Return what quarantined files are sorted by."""
    return (row.filepath, row.code, row.reason)


def rows_to_table(rows: Sequence[Row]) -> pa.Table:
    """Return one table of readable and unreadable clips; an unreadable one has ``error_code``."""
    return pa.Table.from_pylist([_row_to_dict(row) for row in rows], schema=ROW_SCHEMA)


def table_to_rows(table: pa.Table) -> list[Row]:
    """Return the rows that ``rows_to_table`` was given, equal in every field."""
    return [_dict_to_row(values) for values in table.to_pylist()]


def rows_to_parquet(stats: Iterable[ClipStats]) -> bytes:
    """Return the per-clip table as Parquet bytes, sorted by clip.

    ``label`` is the joined form of ``labels``, for people.
    """
    values = [{"label": row.label, **vars(row)} for row in sorted(stats, key=row_key)]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(values, schema=CLIPS_SCHEMA), buffer, compression="zstd")
    return buffer.getvalue()


def parquet_to_rows(data: bytes) -> list[ClipStats]:
    """Return the rows of ``rows_to_parquet``; ValueError where the bytes are not such a table."""
    try:
        table = pq.read_table(io.BytesIO(data)).select(list(STATS_FIELDS))
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise ValueError(f"not a table of clips: {str(error).splitlines()[0]}") from error
    return [_dict_to_stats(values) for values in table.to_pylist()]


def examples_to_table(examples: Sequence[Example]) -> pa.Table:
    """Return one row per clip to measure."""
    return pa.Table.from_pylist([vars(example) for example in examples], schema=EXAMPLE_SCHEMA)


def table_to_examples(table: pa.Table) -> list[Example]:
    """Return the examples that ``examples_to_table`` was given."""
    return [
        Example(**{**values, "labels": tuple(values["labels"])}) for values in table.to_pylist()
    ]


def measure_block(table: pa.Table, *, root: str, limits: DecodeLimits) -> pa.Table:
    """Measure a table of examples; unreadable clips come back as rows with ``error_code``."""
    examples = table_to_examples(table)
    return rows_to_table([measure_example(Path(root), example, limits) for example in examples])


def _row_to_dict(row: Row) -> dict[str, Any]:
    if isinstance(row, ClipStats):
        return dict(vars(row))
    return {
        "filepath": row.filepath,
        "error_code": row.code,
        "error_reason": row.reason,
        "error_mend": row.mend,
    }


def _dict_to_row(values: dict[str, Any]) -> Row:
    if values["error_code"] is None:
        return _dict_to_stats({name: values[name] for name in STATS_FIELDS})
    return Quarantined(
        filepath=str(values["filepath"]),
        code=str(values["error_code"]),
        reason=str(values["error_reason"]),
        mend=str(values["error_mend"]),
    )


def _dict_to_stats(values: dict[str, Any]) -> ClipStats:
    lists = {name: tuple(values[name]) for name in ("labels", "psd_db")}
    return ClipStats(**{**values, **lists})
