"""Answers to segments, as they come -> a Parquet table of all, never held as a whole."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xmoe.annotate.answers import Answered
from xmoe.base.files import storage_errors

ROWS_PER_GROUP = 4096


class WindowTable:
    """A context in which each group of answers becomes rows of ``path``.

    Columns ``start_s`` and ``end_s`` of what was answered, ``k`` and one probability per class,
    named ``p_CLASS``. The file appears, complete, when the context is left without an error.
    """

    def __init__(self, path: Path, classes: tuple[str, ...], sample_rate_hz: int) -> None:
        self._path, self._rate_hz = path, sample_rate_hz
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        columns = [("start_s", pa.float64()), ("end_s", pa.float64()), ("k", pa.int32())]
        columns += [(f"p_{name}", pa.float32()) for name in classes]
        self._schema = pa.schema(columns)
        self._waiting: list[pa.Table] = []

    def __enter__(self) -> WindowTable:
        with storage_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._temporary, self._schema)
        return self

    def __call__(self, group: Answered) -> None:
        starts = np.where(group.around >= 0, group.around, group.starts)
        columns = [
            starts / self._rate_hz,
            (starts + group.lengths) / self._rate_hz,
            group.k,
            *group.probabilities.T,
        ]
        arrays = [
            pa.array(column, pa.float64()).cast(kind.type)
            for column, kind in zip(columns, self._schema, strict=True)
        ]
        self._waiting.append(pa.Table.from_arrays(arrays, schema=self._schema))
        if sum(table.num_rows for table in self._waiting) >= ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            with storage_errors(self._path):
                self._writer.write_table(pa.concat_tables(self._waiting))
            self._waiting = []

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._flush()
            with storage_errors(self._path):
                self._writer.close()
                if kind is None:
                    self._temporary.replace(self._path)
        finally:
            self._temporary.unlink(missing_ok=True)
