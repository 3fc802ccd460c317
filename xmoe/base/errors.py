"""Every error that xmoe raises on purpose, one root, each with what, where and how to mend it.

    XmoeError                     exit code 1 (something outside the user's input failed)
    |-- StorageError              a file could not be written or a folder is full or read-only
    `-- InputError                exit code 2 (the user's input is wrong)
        |-- AudioError            one recording cannot be used (``code`` says which way)
        |-- DatasetError          the manifest or the folder of recordings is wrong
        |-- ConfigError           an option or a combination of options is wrong
        `-- RunFolderError        a run folder or a checkpoint is missing, damaged or not ours
            `-- RunVersionError   a run that another version of xmoe wrote

HTTP status and exit codes are decided at the edges (``xmoe.cli``, ``xmoe.serve``), never here.
"""

from __future__ import annotations


class XmoeError(Exception):
    """Root of the tree: ``what`` happened, ``where`` (a file or option), and how to ``mend`` it."""

    def __init__(self, what: str, *, where: str | None = None, mend: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.mend = mend

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text} ({self.mend})" if self.mend else text

    def as_dict(self) -> dict[str, str | None]:
        """The error as plain fields for JSON output."""
        return {
            "error": type(self).__name__,
            "what": self.what,
            "where": self.where,
            "mend": self.mend,
        }


class StorageError(XmoeError):
    """A file could not be written: read-only folder, full disk, lost mount."""


class InputError(XmoeError):
    """The user's input is wrong; nothing was started."""


class AudioError(InputError):
    """One recording cannot be used.

    ``code`` is one of: ``missing``, ``empty``, ``not_audio``, ``unsupported``, ``truncated``,
    ``too_short``, ``too_long``, ``too_large``, ``bad_rate``, ``bad_channels``, ``non_finite``,
    ``unreadable``.
    """

    def __init__(
        self, code: str, what: str, *, where: str | None = None, mend: str | None = None
    ) -> None:
        super().__init__(what, where=where, mend=mend)
        self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_audio_error, (self.code, self.what, self.where, self.mend))


def _rebuild_audio_error(code: str, what: str, where: str | None, mend: str | None) -> AudioError:
    return AudioError(code, what, where=where, mend=mend)


class DatasetError(InputError):
    """The manifest or the folder of recordings is wrong."""


class ConfigError(InputError):
    """An option, or a combination of options, is wrong."""


class RunFolderError(InputError):
    """A run folder or a checkpoint is missing, damaged, or not one of ours."""


class RunVersionError(RunFolderError):
    """A run that another version of xmoe wrote; ``what`` names versions and no path."""
