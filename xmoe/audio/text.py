"""The bytes of a table -> text, whatever program saved it.

A byte order mark decides; without one it is UTF-16 if every other byte is zero, else UTF-8, else
Windows-1252, as spreadsheets write it in Western Europe. That last step is a guess (the bytes are
letters in other encodings too), so it comes with a note.
"""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import NamedTuple

from xmoe.base.errors import DatasetError

LFS_POINTER = b"version https://git-lfs"
LFS_MEND = "fetch the files themselves: git lfs pull"

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAVE_AS_UTF8 = "save it as UTF-8, for example: iconv -f ENCODING -t utf-8 OLD > NEW"


class Text(NamedTuple):
    """A file's text; ``note`` says how its encoding was guessed, if it was."""

    text: str
    note: str = ""


def read_text(path: Path) -> Text:
    """Read a text file; raises ``DatasetError`` if it is unreadable or not text."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        mend = "check the path and the permissions"
        raise DatasetError(reason, where=str(path), mend=mend) from None
    if raw.startswith(LFS_POINTER):
        what = "is a Git LFS pointer, not the table itself"
        raise DatasetError(what, where=str(path), mend=LFS_MEND)
    if raw.startswith(b"PK\x03\x04"):
        mend = "save it as csv (Excel: CSV UTF-8)"
        raise DatasetError("is a workbook or another archive, not text", where=str(path), mend=mend)
    found = _decode(raw, path)
    if "\0" in found.text:
        line = found.text.count("\n", 0, found.text.index("\0")) + 1
        what = f"line {line} holds zero bytes: this is not text"
        raise DatasetError(what, where=str(path), mend="export the table again as text (csv)")
    return found


def _decode(raw: bytes, path: Path) -> Text:
    marked = next((name for mark, name in _MARKS if raw.startswith(mark)), None)
    encoding = marked or _utf16_without_mark(raw) or "utf-8"
    try:
        return Text(raw.decode(encoding))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        what = f"line {line} is not {encoding.removesuffix('-sig').upper()} text"
        what += f" (byte {raw[error.start]:#04x})"
        refusal = DatasetError(what, where=str(path), mend=_SAVE_AS_UTF8)
    if encoding == "utf-8":
        try:
            text = raw.decode("cp1252")
        except UnicodeDecodeError:
            raise refusal from None
        note = f"{path.name} is not UTF-8: it was read as Windows-1252 (Western European); "
        return Text(text, note + "where letters look wrong, save it as UTF-8")
    raise refusal


def _utf16_without_mark(raw: bytes) -> str | None:
    """Recognise UTF-16 by zeros on one side of its byte pairs; other text has none at all."""
    head = raw[:4096]
    high_first, low_first = head[0::2].count(0), head[1::2].count(0)
    if max(high_first, low_first) * 10 < len(head):
        return None
    return "utf-16-be" if high_first > low_first else "utf-16-le"
