"""Traces -> the most certain mistakes, each with its picture and sound.

The report lies below ``explain``, so an ``Illustrator`` that is passed in makes pictures and
sounds. Without one the mistakes are listed and the reason is given.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

from xmoe.report.html import element, join, paragraph, percent, picture, table
from xmoe.report.records import Row, RunRecords

MOST_MISTAKES = 10


@dataclass(frozen=True)
class Illustration:
    """A mistake as a picture (PNG) and a sound (WAV), with words for both and a note of caution."""

    png: bytes
    alt: str
    wav: bytes
    note: str = ""


Illustrator = Callable[[str], Illustration]


def find_mistakes(traces: list[Row], *, most: int = MOST_MISTAKES) -> list[Row]:
    """The wrong answers, the most certain first.

    A clip with several labels is wrong where the most probable is none of them.
    """
    wrong = [row for row in traces if row["answer"] not in row["labels"]]
    return sorted(wrong, key=lambda row: (-row["probability"], row["clip_id"]))[:most]


def describe_mistakes(records: RunRecords, illustrate: Illustrator | None, absent: str) -> Markup:
    """The most certain mistakes; ``absent`` says why they are neither shown nor played."""
    mistakes = find_mistakes(records.traces)
    if not mistakes:
        return paragraph("No test recording was answered wrongly.")
    if illustrate is None:
        rows = [
            (
                row["clip_id"],
                ";".join(row["labels"]),
                row["answer"],
                percent(row["probability"]),
                f"{row['k']:.1f}",
            )
            for row in mistakes
        ]
        columns = ("Clip", "Truth", "Answer", "Claimed", "K")
        return join(
            paragraph(absent, class_="absent") if absent else "",
            table("The most certain mistakes", columns, rows, texts=3),
        )
    cards = [show_mistake(row, illustrate) for row in mistakes]
    return join(
        paragraph(
            "Dark is loud; the orange to red overlay is what the router finds salient. "
            "The player has the segment that the picture shows."
        ),
        element("div", *cards, class_="cards"),
    )


def show_mistake(row: Row, illustrate: Illustrator) -> Markup:
    title = element("h3", ";".join(row["labels"]) or "no label", " taken for ", row["answer"])
    experts = ", ".join(str(use["name"]).replace("_", " ") for use in row["experts"] or ())
    words = paragraph(
        f"Claimed {percent(row['probability'])}"
        f"{', marked uncertain' if row['uncertain'] else ''}; K {row['k']:.1f}"
        f"{f' ({experts})' if experts else ', the stem alone'}. {row['clip_id']}",
        class_="quiet",
    )
    try:
        shown = illustrate(row["clip_id"])
    except Exception as error:  # whatever a recording does, the card says it
        return element("article", title, paragraph(f"Not shown: {error}", class_="absent"), words)
    sound = base64.b64encode(shown.wav).decode("ascii")
    player = Markup(
        '<audio controls preload="metadata" src="data:audio/wav;base64,{}" '
        'aria-label="Sound of this clip"></audio>'
    ).format(sound)
    note = paragraph(shown.note, class_="quiet") if shown.note else ""
    return element("article", title, picture(shown.png, shown.alt), player, words, note)
