"""Policy, race and calibration -> the part that says what was chosen and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from xmoe.base.config import BackboneSpec
from xmoe.policy.records import Race, StackRow
from xmoe.report.html import DASH, element, join, paragraph, percent, table
from xmoe.report.records import RunRecords

SOURCES = {"rule": "a rule", "race": "the race", "user": "the user"}


def describe_choices(records: RunRecords) -> Markup:
    """Every choice with its reason, how the race went, and what validation set."""
    policy = records.policy
    rows = [
        (choice.name, say_value(choice.value), SOURCES[choice.source], choice.reason)
        for choice in policy.choices
    ]
    parts: list[object] = [
        table("Choices", ("What", "Chosen", "By", "Why"), rows, texts=4),
        element("h3", "The race of front ends"),
    ]
    if policy.race:
        parts.append(describe_race(policy.race))
    else:
        parts.append(
            paragraph(f"There was no race: {policy.race_skipped or 'it was not asked for'}.")
        )
    if policy.candidates:
        parts += [element("h3", "Candidates for experts"), describe_candidates(policy.candidates)]
    if networks := [spec for spec in records.config.model.experts if spec.kind == "backbone"]:
        parts += [element("h3", "Pretrained networks"), describe_networks(networks)]
    if reasons := records.config.routing.reasons:
        caption = "What held-out clips set after the fit"
        parts += [
            element("h3", "Calibration"),
            table(caption, ("What", "Why"), list(reasons.items()), texts=2),
        ]
    return join(*parts)


def describe_race(race: Race) -> Markup:
    low_db, high_db = race.noise_snr_db
    kept = "groups kept whole" if race.folds == "group" else "classes in proportion"
    rows = [
        (
            f"{one.name} (chosen)" if one.name == race.winner else one.name,
            f"{percent(one.accuracy)} ± {100 * one.standard_error:.1f}",
            percent(one.clean_accuracy),
            percent(one.noisy_accuracy),
            f"{100 * one.gain:+.1f} ± {100 * one.gain_se:.1f}" if one.gain_se else DASH,
        )
        for one in race.candidates
    ]
    return join(
        paragraph(
            f"Measured with {race.method}, on {race.num_clips} training clips, {race.partitions} "
            f"times {race.num_folds} folds, {kept}, each clip clean and with noise at {low_db:g} "
            f"to {high_db:g} dB. The first row defends its place: another takes it with a gain of "
            f"more than {race.bar:.2f} standard errors."
        ),
        table("The race", ("Front end", "Score", "Clean", "Noisy", "Gain, points"), rows),
    )


def describe_candidates(candidates: Sequence[StackRow]) -> Markup:
    rows = [
        (
            f"{one.place}. {one.name}" if one.taken else one.name,
            f"{one.ms:.1f}",
            f"{one.alone:.3f}",
            f"{one.gain:+.4f} ± {one.gain_se:.4f}",
            f"{one.weight:.2f}" if one.taken else DASH,
            one.reason,
        )
        for one in candidates
    ]
    words = (
        "Log loss in nats on clips whose sources were left out: of each alone, and how much it "
        "gains beside those taken before it. Numbered ones are experts, in the order in which "
        "they are asked."
    )
    columns = ("Candidate", "ms", "Alone", "Gain", "Weight", "Why")
    return join(paragraph(words), table("Candidates", columns, rows))


def describe_networks(networks: Sequence[BackboneSpec]) -> Markup:
    """Whose the pretrained networks are, and what they were trained on."""
    rows = [
        (
            one.name,
            one.card.name,
            f"{one.card.licence}: not for commercial use"
            if one.card.non_commercial
            else one.card.licence,
            one.card.source,
            one.card.trained_on or DASH,
        )
        for one in networks
    ]
    columns = ("Expert", "Network", "Licence", "Source", "Trained on")
    return table("Networks", columns, rows, texts=5)


def say_value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(say_value, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {say_value(item)}" for name, item in value.items()) or "none"
    return str(value)
