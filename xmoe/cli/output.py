"""A command's reply -> one JSON object for programs, or text and tables for people.

A command returns a ``Reply`` and prints nothing itself; only ``print_reply`` writes to standard
output. Progress, warnings and errors go to the error stream.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

LOG_WIDTH = 100  # where output is no terminal


@dataclass(frozen=True)
class Reply:
    """``fields`` for ``--json``, ``shown`` for people, and the exit code.

    An item of ``shown`` is text, anything that rich can print, or a function that prints on the
    console it is given.
    """

    fields: Mapping[str, Any]
    shown: Sequence[RenderableType | Callable[[Console], None]] = ()
    exit_code: int = 0


def print_reply(reply: Reply, stream: TextIO, *, as_json: bool) -> None:
    """Write a reply to ``stream``: exactly one line of JSON, or the text for people."""
    if as_json:
        stream.write(to_json_line(reply.fields))
    elif reply.shown:
        from rich.console import Console

        width = None if stream.isatty() else LOG_WIDTH
        console = Console(file=stream, highlight=False, width=width)
        for item in reply.shown:
            if isinstance(item, str):
                console.print(item, markup=False, soft_wrap=True)
            elif callable(item):
                item(console)
            else:
                console.print(item)
    stream.flush()


def to_json_line(value: Any) -> str:
    """One line of strict JSON; NaN and infinity become null.

    Takes what commands hold: paths, numpy scalars and arrays, pydantic records.
    """
    loose = json.dumps(value, default=_plain)
    return json.dumps(json.loads(loose, parse_constant=lambda _: None), allow_nan=False) + "\n"


def make_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table whose first column is text and whose numbers stand on the right."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        # Folded: a name that is cut off names nothing.
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(format_cell(cell)) for cell in row))
    return table


def format_cell(value: object) -> str:
    """A cell: numbers short, a pair of numbers as an interval, None as a dash."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return f"[{format_cell(value[0])}, {format_cell(value[1])}]"
    return str(value)


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
