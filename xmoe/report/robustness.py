"""``robustness.json`` -> how much is still right as recordings get worse, as picture and table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from xmoe.pictures.robustness import draw_robustness, format_level, say_robustness
from xmoe.report.html import DASH, drawn, join, paragraph, table
from xmoe.report.records import RunRecords


def describe_robustness(records: RunRecords) -> Markup:
    record = records.robustness
    words = (
        f"{record['num_clips']} of {record['num_clips_of_split']} clips of the {record['split']} "
        "split, each harmed at every level. Bars are 95 % intervals; the dashed line is the score "
        "of the clean clips."
    )
    parts: list[object] = [
        paragraph(f"{say_robustness(record)}."),
        drawn(draw_robustness(record), "Accuracy under each harm, from mild to harsh", words),
    ]
    rows = [
        (harm["title"], format_level(harm, index), *_figures(point))
        for harm in record["harms"]
        for index, point in enumerate(harm["points"])
    ]
    columns = ("Harm", "Level", "Accuracy", "95 % interval", "Points lost", "Mean K")
    parts.append(table("Accuracy under each harm", columns, rows))
    parts += [
        paragraph(f"{harm['title']} was left out: {harm['absent']}.", class_="absent")
        for harm in record["harms"]
        if harm.get("absent")
    ]
    return join(*parts)


def _figures(point: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"{100 * point['accuracy']:.1f} %",
        _interval(point["accuracy_ci"]),
        f"{100 * point['loss']:+.1f} ({_interval(point['loss_ci'])})",
        f"{point['mean_k']:.2f}",
    )


def _interval(pair: Sequence[float] | None) -> str:
    return f"{100 * pair[0]:.1f} to {100 * pair[1]:.1f}" if pair else DASH
