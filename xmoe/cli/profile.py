"""``xmoe profile``: a folder of recordings -> what it is like, printed, drawn and kept."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from xmoe.cli.options import (
    EXISTING_FOLDER_OR_ADDRESS,
    FOLDER_OR_ADDRESS,
    command,
    metadata_option,
    session,
    test_fold_option,
)
from xmoe.cli.output import Reply

if TYPE_CHECKING:
    from xmoe.audio.checks import Finding
    from xmoe.profile.assemble import ProfileResult


@command("profile")
@click.argument("dataset", type=EXISTING_FOLDER_OR_ADDRESS)
@metadata_option
@click.option(
    "--out", type=FOLDER_OR_ADDRESS, help="Where to write; runs/profile-NAME if left out."
)
@click.option("--engine", type=click.Choice(["auto", "loop", "ray"]), default="auto")
@click.option("--workers", type=click.IntRange(1), default=1, help="Threads of the plain loop.")
@test_fold_option
@click.option("--strict", is_flag=True, help="Make bad files and findings an error.")
def profile(
    *,
    dataset: Path | str,
    metadata: Path | str | None,
    out: Path | str | None,
    engine: Literal["auto", "loop", "ray"],
    workers: int,
    test_fold: int | None,
    strict: bool,
) -> Reply:
    """Measure the recordings in DATASET, a folder or an address, and say what they are like.

    Writes profile.json, clips.parquet (one row per clip), quarantine.csv (files that cannot be
    read, why, and what to do) and profile.png.
    """
    from xmoe.audio.checks import check_content, check_manifest, raise_on_errors
    from xmoe.audio.dataset import load_dataset
    from xmoe.base.progress import show_progress
    from xmoe.jobs.profile import run_profile
    from xmoe.run.publish import published

    with show_progress(quiet=session().quiet) as progress:
        data = load_dataset(dataset, metadata, test_fold=test_fold, progress=progress)
        findings = check_manifest(data)
        raise_on_errors(findings)
        result = run_profile(data, engine=engine, workers=workers, progress=progress)
    findings += check_content(data, result.hashes, result.silent)
    with published(out or Path("runs") / f"profile-{data.root.name}") as folder:
        written = write_outputs(folder, result)
    if strict:
        refuse_imperfect(result, findings, written["quarantine"])
    return _reply(result, findings, data.notes, written)


def write_outputs(folder: Path, result: ProfileResult) -> dict[str, str]:
    """Write everything that a profile leaves behind; returns where each file is, or will be."""
    from xmoe.audio.quarantine import write_quarantine
    from xmoe.base.files import write_bytes, write_json
    from xmoe.pictures import to_png
    from xmoe.profile.profile import write_clip_table
    from xmoe.run.folder import RunFile
    from xmoe.storage.mirror import name_address

    paths = {
        "profile": folder / RunFile.PROFILE,
        "clips": folder / RunFile.CLIPS,
        "quarantine": folder / RunFile.QUARANTINE,
        "picture": folder / "profile.png",
    }
    write_json(paths["profile"], result.profile)
    write_clip_table(paths["clips"], result.stats)
    write_quarantine(paths["quarantine"], result.quarantined)
    write_bytes(paths["picture"], to_png(result.draw()))
    return {name: name_address(str(path)) for name, path in paths.items()}


def refuse_imperfect(result: ProfileResult, findings: list[Finding], where: str) -> None:
    """Raise DatasetError where a file was quarantined or anything is an error (``--strict``)."""
    from xmoe.audio.checks import raise_on_errors
    from xmoe.base.errors import DatasetError

    raise_on_errors(findings)
    if result.quarantined:
        what = f"{len(result.quarantined)} recordings cannot be read"
        mend = "repair or remove the files listed there, or leave --strict out"
        raise DatasetError(what, where=where, mend=mend)


def _reply(
    result: ProfileResult, findings: list[Finding], notes: tuple[str, ...], written: dict[str, str]
) -> Reply:
    from xmoe.profile.show import print_profile

    fields = {
        "profile": result.profile,
        "findings": [asdict(finding) for finding in findings],
        "quarantined": [asdict(row) for row in result.quarantined],
        "notes": notes,
        "files": written,
    }
    lines = [f"note: {note}" for note in notes]
    lines += [f"{found.severity}: {found}" for found in findings]
    lines += [f"{name:<11}{path}" for name, path in written.items()]
    return Reply(fields, [partial(print_profile, result.profile), "", *lines])
