"""A run folder -> ``report.html``: every part in order, and for a part that fails, why it did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from markupsafe import Markup

from xmoe.base.errors import RunFolderError
from xmoe.base.files import write_bytes
from xmoe.report.choices import describe_choices
from xmoe.report.data import describe_data
from xmoe.report.html import Section, paragraph, render_page
from xmoe.report.mistakes import Illustrator, describe_mistakes
from xmoe.report.outcome import (
    describe_calibration,
    describe_classes,
    describe_confusion,
    describe_figures,
    describe_learning,
    say_answer,
)
from xmoe.report.records import RunRecords
from xmoe.report.robustness import describe_robustness
from xmoe.report.routing import (
    describe_accuracy_by_k,
    describe_costs,
    describe_k_by_snr,
    describe_usage,
)
from xmoe.run.folder import RunFile

NO_ILLUSTRATOR = "Spectrograms and sounds are absent: the recordings were not at hand."
Describe = Callable[[RunRecords], Markup]

PARTS: dict[str, Describe] = {
    "Figures": describe_figures,
    "What the data is": describe_data,
    "What was chosen and why": describe_choices,
    "How the training went": describe_learning,
    "Confusion": describe_confusion,
    "Calibration": describe_calibration,
    "Accuracy against K": describe_accuracy_by_k,
    "Expert usage by class": describe_usage,
    "K against SNR": describe_k_by_snr,
    "Classes": describe_classes,
}


def render_report(
    run: str | Path, *, illustrate: Illustrator | None = None, absent: str = NO_ILLUSTRATOR
) -> str:
    """The report of a run as one HTML document.

    ``illustrate`` turns a clip id into picture and sound; where it is None, ``absent`` says why.
    Raises RunFolderError where ``run`` is no folder, or a run of another version.
    """
    records = RunRecords(run)
    if not records.folder.path.is_dir():
        raise RunFolderError(
            "no such run folder", where=str(run), mend="name one `xmoe train` wrote"
        )
    records.folder.check_version()
    parts = dict(PARTS)
    if records.folder.file(RunFile.ROBUSTNESS).is_file():
        parts["Robustness"] = describe_robustness
    parts["The most certain mistakes"] = lambda found: describe_mistakes(found, illustrate, absent)
    parts["What it costs"] = describe_costs
    sections = [Section(title, render_part(part, records)) for title, part in parts.items()]
    return render_page(f"xmoe run: {records.name}", _say_answer(records), sections)


def render_part(describe: Describe, records: RunRecords) -> Markup:
    try:
        return describe(records)
    except Exception as error:  # one damaged record must not cost the rest of the report
        return paragraph(f"This part is absent: {_say_error(error)}", class_="absent")


def write_report(
    run: str | Path,
    out: str | Path | None = None,
    *,
    illustrate: Illustrator | None = None,
    absent: str = NO_ILLUSTRATOR,
) -> Path:
    """Write the report, by default into the run folder, and return its path."""
    path = Path(out) if out is not None else Path(run) / RunFile.REPORT
    write_bytes(path, render_report(run, illustrate=illustrate, absent=absent).encode("utf-8"))
    return path


def _say_answer(records: RunRecords) -> str:
    try:
        return " ".join(filter(None, [say_answer(records.metrics), records.outdated]))
    except Exception as error:  # as in render_part
        return f"There are no figures on the test split: {_say_error(error)}"


def _say_error(error: Exception) -> str:
    return (
        f"{type(error).__name__}: {error}" if not isinstance(error, RunFolderError) else str(error)
    )
