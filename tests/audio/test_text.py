"""Text in every encoding that spreadsheets write, or the one that it is not."""

import pytest

from xmoe.audio.text import read_text
from xmoe.base.errors import DatasetError

TEXT = "file,label\ns\xf8n/a.wav,Gr\xfcnfink\n"


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
def test_unicode_is_read_without_a_guess(tmp_path, encoding):
    (tmp_path / "t.csv").write_bytes(TEXT.encode(encoding))
    assert read_text(tmp_path / "t.csv") == (TEXT, "")


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_western_bytes_are_read_with_a_note(tmp_path, encoding):
    (tmp_path / "t.csv").write_bytes(TEXT.encode(encoding))
    text, note = read_text(tmp_path / "t.csv")
    assert text == TEXT
    assert note.startswith("t.csv is not UTF-8: it was read as Windows-1252")


def test_marks_of_utf16_are_dropped(tmp_path):
    (tmp_path / "t.csv").write_bytes(("\ufeff" + TEXT).encode("utf-16-be"))
    assert read_text(tmp_path / "t.csv").text == TEXT


@pytest.mark.parametrize(
    ("raw", "what", "mend"),
    [
        (b"a,b\n\x81,1\n", "line 2 is not UTF-8 text .byte 0x81", "iconv"),
        (b"\xff\xfea\0b", "is not UTF-16 text", "iconv"),
        (b"a,b\n1,\0" + b"x" * 100, "line 2 holds zero bytes", "export"),
        (b"PK\x03\x04\x14\0\x06\0", "is a workbook", "csv"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n", "Git LFS", "lfs pull"),
    ],
)
def test_what_is_no_text_is_named(tmp_path, raw, what, mend):
    (tmp_path / "t.csv").write_bytes(raw)
    with pytest.raises(DatasetError, match=what) as caught:
        read_text(tmp_path / "t.csv")
    assert mend in (caught.value.mend or "")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DatasetError, match="no such file"):
        read_text(tmp_path / "none.csv")
