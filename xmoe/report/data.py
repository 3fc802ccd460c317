"""Profile, notes, warnings and quarantine -> the part of the report on the data."""

from __future__ import annotations

from collections import Counter

from markupsafe import Markup

from xmoe.audio.dataset import SPLITS
from xmoe.base.units import format_hz
from xmoe.profile.draw import render_profile
from xmoe.profile.profile import Profile
from xmoe.profile.show import format_duration
from xmoe.report.html import bullets, drawn, element, join, paragraph, table
from xmoe.report.records import RunRecords
from xmoe.run.folder import RunFile

MOST_QUARANTINED = 10


def describe_data(records: RunRecords) -> Markup:
    profile = records.profile
    counts = records.dataset.get("clips") or profile.splits
    splits = ", ".join(f"{name} {counts[name]}" for name in SPLITS if name in counts)
    parts: list[object] = [
        list_facts(profile),
        paragraph(f"Clips by split: {splits}. Task: {profile.task.replace('_', ' ')}."),
        drawn(render_profile(profile), "What the recordings are like"),
    ]
    warnings = list(dict.fromkeys([*records.dataset.get("warnings", ()), *profile.warnings]))
    if warnings:
        parts += [element("h3", "Warnings"), element("div", bullets(warnings), class_="warning")]
    else:
        parts.append(paragraph("Nothing to warn of was found in the recordings."))
    if notes := records.dataset.get("notes"):
        parts += [element("h3", "What was assumed"), bullets(notes)]
    return join(*parts, element("h3", "What was left out"), describe_quarantine(records))


def list_facts(profile: Profile) -> Markup:
    facts = {
        "Recordings": str(profile.num_clips),
        "Length in all": format_duration(profile.total_duration_s),
        "Classes": str(len(profile.classes)),
        "Sample rates": ", ".join(format_hz(rate) for rate in profile.fs_unique),
        "Effective band": f"{format_hz(profile.fmin_eff_hz)} – {format_hz(profile.fmax_eff_hz)}",
        "SNR proxy, median": f"{profile.snr_db:.1f} dB",
        "Clipped recordings": f"{100 * profile.clipped_fraction:.1f} %",
        "Largest over smallest class": f"{profile.imbalance:.3g}",
    }
    pairs = [element("div", element("dt", k), element("dd", v)) for k, v in facts.items()]
    return element("dl", *pairs, class_="facts")


def describe_quarantine(records: RunRecords) -> Markup:
    rows = records.quarantine
    if not rows:
        return paragraph("No recording had to be left out.")
    codes = Counter(str(row.get("code")) for row in rows)
    words = ", ".join(f"{code} {count}" for code, count in sorted(codes.items()))
    names = ("file", "reason", "what_to_do")
    shown = [[row.get(name) or "" for name in names] for row in rows[:MOST_QUARANTINED]]
    more = len(rows) - len(shown)
    return join(
        paragraph(f"{len(rows)} recordings could not be used ({words})."),
        table("Recordings left out", ("File", "Reason", "What to do"), shown, texts=3),
        paragraph(f"{more} more are listed in {RunFile.QUARANTINE}.", class_="quiet")
        if more
        else "",
    )
