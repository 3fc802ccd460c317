"""A path or an open stream -> an open libsndfile sound whose header has been checked.

The only place where xmoe opens recordings. Paths are opened without blocking (a pipe or device is
refused after opening, so the file cannot be swapped in between) and handed to libsndfile by
descriptor, which reads without Python's lock. libsndfile's messages contain object addresses; only
its plain words leave this module.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, TypeAlias, cast

import soundfile as sf

from xmoe.audio.chained import ChainedSound
from xmoe.audio.containers import CONVERT, COPY_AGAIN, Header, read_header
from xmoe.base.errors import AudioError

Source = str | os.PathLike[str] | BinaryIO
OpenSound: TypeAlias = "sf.SoundFile | ChainedSound"

MAX_BYTES = 16 << 30


@contextmanager
def open_sound(
    source: Source, *, name: str | None = None, max_bytes: int = MAX_BYTES
) -> Iterator[tuple[OpenSound, str]]:
    """Open a recording: the sound and the name used in errors; everything is closed afterwards.

    A stream is read from its start and left open. Raises ``AudioError`` for files that are missing,
    too large, not audio, cut short, or in an unsupported format.
    """
    if isinstance(source, (str, os.PathLike)):
        where = name or os.fspath(source)
        with _open_regular(source, where) as file:
            header = _check_file(file, where, max_bytes)
            with _decoder(file, header, where) as sound:
                yield sound, where
    else:
        where = name or "audio stream"
        header = _check_file(source, where, max_bytes)
        with _decoder(source, header, where) as sound:
            yield sound, where


def decoder_reason(error: Exception) -> str:
    """The words of libsndfile itself, or a plain sentence if there are none."""
    if isinstance(error, sf.LibsndfileError):
        text = str(error.error_string).strip().rstrip(".").removeprefix("Error : ")
        return text[:1].lower() + text[1:]
    return "the decoder gave up"


def _open_regular(path: str | os.PathLike[str], where: str) -> BinaryIO:
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (FileNotFoundError, NotADirectoryError):
        what, mend = "there is no such file", "check the path"
        raise AudioError("missing", what, where=where, mend=mend) from None
    except (OSError, ValueError) as error:
        what = f"cannot be opened: {_system_reason(error, 'the name is not a path')}"
        mend = "check the path and the permissions"
        raise AudioError("unreadable", what, where=where, mend=mend) from None
    if not stat.S_ISREG(mode := os.fstat(descriptor).st_mode):
        os.close(descriptor)
        what = "is a pipe or device, not a regular file"
        if stat.S_ISDIR(mode):
            what = "is a folder, not a recording (`xmoe infer` takes one with --input)"
        raise AudioError("unreadable", what, where=where, mend="name an audio file")
    return cast(BinaryIO, os.fdopen(descriptor, "rb", buffering=0))


def _check_file(file: BinaryIO, where: str, max_bytes: int) -> Header:
    """Check size and header, and rewind the file."""

    def read_at(offset: int, count: int) -> bytes:
        if not 0 <= offset < size:
            return b""
        file.seek(offset)
        return file.read(count)

    try:
        size = file.seek(0, os.SEEK_END)
        if size > max_bytes:
            what = f"the file has {size} bytes, the limit is {max_bytes}"
            raise AudioError("too_large", what, where=where, mend="cut it into shorter files")
        header = read_header(read_at, size, where=where)
        file.seek(0)
        return header
    except (OSError, ValueError) as error:
        what = f"cannot be read: {_system_reason(error, 'the stream is closed')}"
        raise AudioError("unreadable", what, where=where, mend=COPY_AGAIN) from None


def _system_reason(error: Exception, otherwise: str) -> str:
    return (getattr(error, "strerror", None) or otherwise).lower()


@contextmanager
def _decoder(file: BinaryIO, header: Header, where: str) -> Iterator[OpenSound]:
    """Open a rewound file with libsndfile, which does not own it; our own files by descriptor."""
    sound: OpenSound
    try:
        if len(header.streams) > 1:
            sound = ChainedSound(file, header.streams, where)
        else:
            handle = file.fileno() if isinstance(file, io.FileIO) else file
            sound = sf.SoundFile(handle, closefd=False)
    except (sf.SoundFileError, RuntimeError, TypeError, ValueError) as error:
        raise _refusal(error, where) from None
    with sound:
        yield sound


def _refusal(error: Exception, where: str) -> AudioError:
    reason = decoder_reason(error)
    if "unimplemented" in reason or "not supported" in reason:
        return AudioError("unsupported", reason, where=where, mend=CONVERT)
    return AudioError("unreadable", f"damaged header: {reason}", where=where, mend=COPY_AGAIN)
