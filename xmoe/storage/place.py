"""A path or an ``s3://``, ``gs://`` or ``file://`` address -> one way to list, read and write.

A local write is a temporary file that is renamed; a write to an object store becomes visible with
its last byte. So a reader sees the old bytes or the new ones, never a part, and a failed write
leaves the old file as it was. A store's own errors become a ``StorageError`` (writing) or an
``InputError`` (reading) that names the address and the remedy.

Addresses are read as people write them: everything after the bucket is the key, and nothing in it
is percent-decoded (``file://`` is, as usual). Options of pyarrow may follow, as in
``s3://bucket/runs?endpoint_override=http://127.0.0.1:9000``; keys and tokens come from the
environment (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ...) and are refused in an address,
because addresses end up in logs.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

from xmoe.base.errors import InputError, StorageError
from xmoe.base.files import write_bytes

CHECK_ADDRESS = "check the address, and that this machine may read it"
CHECK_WRITING = "check the address, its credentials and its space, or name another place"
KEYS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or allow this role",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or allow this service account",
}
# Words that stores use for one cause, and how to mend it; ``{keys}`` are those of the store.
_CAUSES = (
    (r"NO_SUCH_BUCKET|bucket does not exist", "check the bucket's name and its region"),
    (
        r"ACCESS_DENIED|ACCESS_KEY|SIGNATURE|TOKEN|UNAUTH|PERMISSION|FORBIDDEN|credential",
        "{keys}",
    ),
    (
        r"NETWORK|CURL|CONNECT|RESOLVE|TIMEOUT|UNAVAILABLE",
        "check the network, the region and the endpoint (AWS_ENDPOINT_URL, endpoint_override=)",
    ),
)
# One request for a small object; an end to trying, which would take a quarter of an hour.
_OPTIONS_OF = {"s3": "allow_delayed_open=true", "gs": "retry_limit_seconds=20"}
_BLOCK_BYTES = 1 << 23
_OPTIONS = re.compile(r"\?(?P<options>[a-z_]+=[^?]*)$")


@dataclass(frozen=True)
class Found:
    """One file below a place: its ``name`` relative to it, with ``/``, and its size in bytes.

    ``stamp`` holds its size and times and changes when the file is rewritten. It is empty for a
    broken link.
    """

    name: str
    size: int
    stamp: str = ""


@dataclass(frozen=True)
class Place:
    """A folder or a file, here or in an object store.

    ``scheme`` is empty for a local path. ``key`` is the path, or bucket and key.
    """

    scheme: str
    key: str
    options: str = ""

    @property
    def is_local(self) -> bool:
        return not self.scheme

    @property
    def path(self) -> Path:
        assert self.is_local
        return Path(self.key)

    @property
    def address(self) -> str:
        """The place as people write it; ``open_place`` gives the same place back."""
        if self.is_local:
            return self.key
        return f"{self.scheme}://{self.key}" + (f"?{self.options}" if self.options else "")

    @property
    def shown(self) -> str:
        """The address without its options, for messages and tables."""
        return self.key if self.is_local else f"{self.scheme}://{self.key}"

    def __truediv__(self, name: str) -> Place:
        joined = f"{self.key.rstrip('/')}/{name}" if self.key else name
        return Place(self.scheme, joined, self.options)

    @property
    def name(self) -> str:
        return self.key.rstrip("/").rpartition("/")[2]

    def kind(self) -> str:
        """``file``, ``folder`` or ``nothing``."""
        if self.is_local:
            here = self.path
            return "file" if here.is_file() else "folder" if here.is_dir() else "nothing"
        from pyarrow import fs

        with reading(self):
            kind = self._files().get_file_info(self.key).type
        names = {fs.FileType.File: "file", fs.FileType.Directory: "folder"}
        return names.get(kind, "nothing")

    def walk(self) -> Iterator[Found]:
        """Yield every file below this folder, by name; linked folders are entered, hidden ones are
        not.

        A broken link is listed as an empty file, so that it is reported and not forgotten. Raises
        InputError if there is no such folder or it cannot be listed.
        """
        found = self._walk_here() if self.is_local else self._walk_store()
        yield from sorted(found, key=lambda file: file.name)

    def _walk_here(self) -> list[Found]:
        def refuse(error: OSError) -> None:
            what = f"cannot be listed: {(error.strerror or 'unreadable').lower()}"
            raise InputError(what, where=error.filename, mend=CHECK_ADDRESS)

        found = []
        inside = {self.key: frozenset((os.path.realpath(self.key),))}
        for folder, inner, files in os.walk(self.key, onerror=refuse, followlinks=True):
            above = inside.pop(folder)
            entered = []
            for name in inner:
                deeper = os.path.join(folder, name)  # noqa: PTH118 (as os.walk spells it)
                real = os.path.realpath(deeper)
                if not name.startswith(".") and real not in above:  # links may lead back up
                    entered.append(name)
                    inside[deeper] = above | {real}
            inner[:] = entered
            for name in files:
                path = Path(folder, name)
                if not name.startswith(".") and (path.is_file() or not path.exists()):
                    stamp = _stamp_here(path)
                    size = int(stamp.partition(" ")[0] or 0)
                    found.append(Found(path.relative_to(self.key).as_posix(), size, stamp))
        return found

    def _walk_store(self) -> list[Found]:
        from pyarrow import fs

        try:
            with reading(self):
                infos = self._files().get_file_info(fs.FileSelector(self.key, recursive=True))
        except FileNotFoundError:
            what = "there is no such folder"
            raise InputError(what, where=self.shown, mend=CHECK_ADDRESS) from None
        start = len(self.key.rstrip("/")) + 1
        files = [info for info in infos if info.type == fs.FileType.File]
        names = [(info.path[start:], info.size or 0, _stamp_stored(info)) for info in files]
        hidden = re.compile(r"(^|/)\.")
        return [Found(*found) for found in names if not hidden.search(found[0])]

    def stamp(self) -> str:
        """The stamp of this file (see ``Found``), empty if there is none."""
        if self.is_local:
            return _stamp_here(self.path)
        with reading(self):
            return _stamp_stored(self._files().get_file_info(self.key))

    def sha256(self) -> str:
        """SHA-256 of this file, empty if it cannot be read; the file is not held in memory."""
        if self.is_local and not self.path.is_file():  # a pipe would wait for ever
            return ""
        try:
            digest = hashlib.sha256()
            for block in self.blocks():
                digest.update(block)
            return digest.hexdigest()
        except (FileNotFoundError, InputError, ValueError):
            return ""

    def read(self, *, at_most: int = -1) -> bytes:
        """The bytes of this file, or its first ``at_most``.

        FileNotFoundError if there is none; InputError if it cannot be read.
        """
        with reading(self), self._open() as stream:
            data: bytes = stream.read(None if at_most < 0 else at_most)
            return data

    def write(self, data: bytes) -> None:
        """Write this file whole; on StorageError the old one is unchanged."""
        if self.is_local:
            write_bytes(self.path, data)
        else:
            self._write_stored([data])

    def write_from(self, file: BinaryIO) -> None:
        """Write this file of a store from an open one, a few MiB at a time."""
        self._write_stored(iter(partial(file.read, _BLOCK_BYTES), b""))

    def _write_stored(self, blocks: Iterable[bytes]) -> None:
        try:
            with self._files().open_output_stream(self.key) as stream:
                for block in blocks:
                    stream.write(block)
        except OSError as error:
            why = store_reason(error)
            mend = f"{_mend(self.scheme, why, CHECK_WRITING)}; what was written before is as it was"
            raise StorageError(f"cannot write: {why}", where=self.shown, mend=mend) from error

    def remove_folder(self) -> None:
        """Remove this folder of a store and all below it; StorageError if that is refused."""
        try:
            self._files().delete_dir(self.key)
        except OSError as error:
            why = store_reason(error)
            mend = _mend(self.scheme, why, CHECK_WRITING)
            raise StorageError(f"cannot remove: {why}", where=self.shown, mend=mend) from error

    def blocks(self) -> Iterator[bytes]:
        """Yield the bytes of this file a few MiB at a time; otherwise like ``read``."""
        with reading(self), self._open() as stream:
            while block := stream.read(_BLOCK_BYTES):
                yield block

    def _open(self) -> Any:
        return self.path.open("rb") if self.is_local else self._files().open_input_stream(self.key)

    def _files(self) -> Any:
        bucket = self.key.partition("/")[0]
        return _file_system(self.scheme, bucket, self.options)


def _stamp_here(path: Path) -> str:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return ""
    # The last number cannot be set back, as rsync and cp -p set the one before it.
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _stamp_stored(info: Any) -> str:
    return "" if info.size is None else f"{info.size} {info.mtime_ns}"


@contextmanager
def reading(place: Place) -> Iterator[None]:
    """Turn a store's error while reading into an InputError; FileNotFoundError passes."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        why = store_reason(error)
        mend = _mend(place.scheme, why, CHECK_ADDRESS)
        raise InputError(f"cannot be read: {why}", where=place.shown, mend=mend) from error


def open_place(address: str | Path) -> Place:
    """The place that a path or an address names; nothing is read yet.

    Raises InputError for an invalid address or an unsupported store.
    """
    text = str(address)
    scheme, mark, rest = text.partition("://")
    if not mark:
        return Place("", str(Path(text).absolute()))
    if scheme == "file":
        return Place("", str(Path(unquote(rest)).absolute()))
    found = _OPTIONS.search(rest)
    options = found["options"] if found else ""
    key = (rest[: found.start()] if found else rest).rstrip("/")
    bucket = key.partition("/")[0]
    if "@" in bucket or ":" in bucket:  # a secret may hold a slash: then the @ comes later
        what = "an address may hold neither a key nor a port"
        mend = "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL"
        raise InputError(what, where=f"{scheme}://...", mend=mend)
    if not bucket:
        mend = f"write {scheme}://BUCKET/KEY"
        raise InputError("the address names no bucket", where=text, mend=mend)
    place = Place(scheme, key, options)
    _file_system(scheme, bucket, options)
    return place


@lru_cache(maxsize=32)
def _file_system(scheme: str, bucket: str, options: str) -> Any:
    """The pyarrow file system of one bucket."""
    import pyarrow
    from pyarrow import fs

    own = _OPTIONS_OF.get(scheme, "")
    own = "" if own.partition("=")[0] in options else own
    query = "&".join(part for part in (options, own) if part)
    try:
        return fs.FileSystem.from_uri(f"{scheme}://{bucket}" + (f"?{query}" if query else ""))[0]
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise InputError(
            f"the address cannot be opened: {store_reason(error)}",
            where=f"{scheme}://{bucket}",
            mend="name a path, or an s3://, gs:// or file:// address",
        ) from error


def _mend(scheme: str, reason: str, otherwise: str) -> str:
    """The remedy for a store's own error."""
    if scheme in KEYS:
        for words, mend in _CAUSES:
            if re.search(words, reason, re.IGNORECASE):
                return mend.format(keys=KEYS[scheme])
    return otherwise


def store_reason(error: BaseException) -> str:
    """A store's own words in one line, without the request's number."""
    if strerror := getattr(error, "strerror", None):
        return str(strerror).lower()
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    text = text.partition(" (Request ID")[0]
    if google := re.search(r"google::cloud::Status\((.*?)(?: error_info=.*)?\)*$", text):
        text = google[1].replace("Retry policy exhausted, with a last message of ", "")
    _, mark, rest = text.partition("AWS Error ")
    return rest if mark else text
