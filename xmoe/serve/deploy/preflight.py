"""A run that is to be served -> its answers here, and the objections to serving it.

Loading is the first check: a run that cannot be loaded raises at once and is never deployed.
Anything else is an objection, which a person may overrule.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import soundfile as sf

from xmoe.base.errors import InputError
from xmoe.predict.golden import Golden, answer_sounds, largest_difference, make_sounds, read_golden
from xmoe.predict.predictor import Predictor
from xmoe.report.compare import Difference, compare_runs
from xmoe.report.records import RunRecords
from xmoe.run.folder import RunFile, RunFolder
from xmoe.run.remote import fetched, fetched_for_predicting
from xmoe.serve.settings import ServeSettings

RECORDS = (RunFile.GOLDEN, RunFile.METRICS, RunFile.TRACES, RunFile.CLIPS)
# Processors differ in the last digits and so, rarely, in whether one more expert is asked; wrong
# weights or a wrong front end show in the first digit.
TOLERANCE = 0.01
MAY_LOSE = 0.02
EVALUATE = "xmoe eval RUN --dataset DIR --out RUN"


@dataclass(frozen=True)
class Rehearsal:
    """A run's answers in this process to made sounds; ``recordings`` are these as WAV."""

    weights_sha256: str
    recordings: tuple[bytes, ...]
    answers: tuple[Mapping[str, float], ...]


@dataclass(frozen=True)
class Verdict:
    """Findings as lines for people, objections, and the run's figures."""

    found: tuple[str, ...]
    objections: tuple[str, ...]
    figures: dict[str, float]


def rehearse(settings: ServeSettings) -> Rehearsal:
    """Load a run and have it answer; RunFolderError where it cannot be loaded."""
    with fetched_for_predicting(settings.run, which=settings.which) as folder:
        sha256 = folder.fingerprint(settings.which)
        predictor = Predictor.load(folder.path, which=settings.which)
    spectro = predictor.config.spectro
    recordings = tuple(_to_wav(sound, spectro.sample_rate_hz) for sound in make_sounds(spectro))
    return Rehearsal(sha256, recordings, tuple(answer_sounds(predictor)))


def _to_wav(samples: object, rate_hz: int) -> bytes:
    buffer = io.BytesIO()
    sf.write(buffer, samples, rate_hz, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def judge_run(
    settings: ServeSettings,
    rehearsal: Rehearsal,
    served: ServeSettings | None,
    *,
    may_lose: float = MAY_LOSE,
) -> Verdict:
    """What speaks for and against serving a run in place of the one now ``served``.

    It must answer as it did when it was written, beat always naming the commonest class, and on the
    test clips of both runs be neither clearly worse than the served one nor lose more than
    ``may_lose``.
    """
    found, objections = [], []
    with fetched(settings.run, [], which=settings.which, wanted=RECORDS) as folder:
        said, wrong = _compare_golden(read_golden(folder), rehearsal)
        figures, missing = _read_figures(folder)
        found.append(said)
        objections += [*wrong, *missing]
        if figures:
            shown = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
            found.append(f"figures   {shown}")
        if served is not None and figures:
            line, worse = _compare_served(folder, served, may_lose)
            found += line
            objections += worse
    return Verdict(tuple(found), tuple(objections), figures)


def _compare_golden(golden: Golden | None, rehearsal: Rehearsal) -> tuple[str, list[str]]:
    if golden is None:
        return "golden    none in the run: not checked", []
    if golden.weights_sha256 != rehearsal.weights_sha256:
        wrong = "its golden answers belong to other weights (xmoe calibrate RUN renews them)"
        return "golden    of other weights", [wrong]
    apart = largest_difference(rehearsal.answers, golden.answers)
    line = f"golden    {len(golden.answers)} clips, within {apart:.2g} of its answers then"
    differ = f"its golden answers differ by {apart:.2g}, more than {TOLERANCE:g}"
    return line, [differ] if apart > TOLERANCE else []


def _read_figures(folder: RunFolder) -> tuple[dict[str, float], list[str]]:
    """The run's own test figures, and the objections they raise."""
    try:
        metrics = RunRecords(folder.path).metrics
    except InputError:
        return {}, [f"the run has no figures on test clips ({EVALUATE})"]
    names = ("map", "accuracy", "majority_accuracy")
    figures = {name: float(metrics[name]) for name in names if metrics.get(name) is not None}
    constant = figures.get("majority_accuracy", 0.0)
    if figures.get("accuracy", 1.0) <= constant:
        what = f"accuracy {figures['accuracy']:.4f} is no better than the commonest answer"
        return figures, [f"{what}, {constant:.4f}"]
    return figures, []


def _compare_served(
    folder: RunFolder, served: ServeSettings, may_lose: float
) -> tuple[list[str], list[str]]:
    try:
        with fetched(served.run, [], which=served.which, wanted=RECORDS) as other:
            compared = compare_runs(other.path, folder.path)
    except InputError as error:
        return [], [f"it cannot be compared with the served run: {error.what}"]
    by_name = {one.name: one for one in compared.figures}
    figure = by_name.get("map", by_name.get("accuracy"))
    if figure is None:
        return [], ["it has no figure in common with the served run"]
    line = f"compared  {describe_difference(figure)}, on {compared.num_clips} clips of both"
    worse = figure.value < -may_lose or (figure.is_clear and figure.value < 0.0)
    return [line], [f"it is worse: {describe_difference(figure)}"] if worse else []


def describe_difference(figure: Difference) -> str:
    interval = "" if figure.interval is None else " ({:+.4f} to {:+.4f})".format(*figure.interval)
    return f"{figure.name} {figure.first:.4f} -> {figure.second:.4f}, {figure.value:+.4f}{interval}"
