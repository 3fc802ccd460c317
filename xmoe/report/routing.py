"""Usage, traces and costs -> how many experts were asked, which, for what, and at what price."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from xmoe.pictures import draw_expert_usage, draw_k_histogram
from xmoe.report.curves import draw_accuracy_by_k, draw_accuracy_by_ms, draw_k_by_snr
from xmoe.report.html import drawn, element, join, paragraph, table
from xmoe.report.records import RunRecords

MOST_CLASSES = 40


def describe_accuracy_by_k(records: RunRecords) -> Markup:
    words = "The diamond is how the run answers: its K is chosen clip by clip."
    by_ms = "curve" in records.metrics
    return join(
        drawn(draw_accuracy_by_ms(records.metrics), "Accuracy against milliseconds", words)
        if by_ms
        else drawn(draw_accuracy_by_k(records.metrics), "Accuracy against mean K", words),
        drawn(draw_k_histogram(records.usage), "How many experts are asked"),
    )


def describe_usage(records: RunRecords) -> Markup:
    """How often each expert is asked, by class; of many classes those that ask most."""
    usage, words = dict(records.usage), ""
    by_class: dict[str, Any] = usage["by_class"]
    if len(by_class) > MOST_CLASSES:
        order = sorted(by_class, key=lambda name: (-by_class[name]["mean_k"], name))
        usage["by_class"] = {name: by_class[name] for name in order[:MOST_CLASSES]}
        words = f"The {MOST_CLASSES} of {len(by_class)} classes that ask the most experts."
    return drawn(draw_expert_usage(usage), "Expert usage by class", words)


def describe_k_by_snr(records: RunRecords) -> Markup:
    pairs = [
        (snr_db, float(row["k"]))
        for row in records.traces
        if (snr_db := records.clips.get(row["clip_id"], {}).get("snr_db")) is not None
    ]
    if not pairs:
        return paragraph("No test clip has a measured SNR.", class_="absent")
    snr_db, k = zip(*pairs, strict=True)
    words = "Where noise makes clips hard, the router should ask more experts."
    return drawn(draw_k_by_snr(snr_db, k), "K against SNR", words)


def describe_costs(records: RunRecords) -> Markup:
    metrics = records.metrics
    macs: dict[str, float] = dict(metrics["mmacs"])
    mean = macs.pop("mean_answer")
    epochs = f" for {metrics['epochs']} epochs" if metrics["epochs"] else ", in closed form"
    parts = [
        paragraph(
            f"Training took {metrics['train_minutes']:.1f} minutes{epochs}. "
            f"An answer costs {mean:.2f} million multiply-accumulates (MMAC) per segment on "
            f"average; the stem alone {macs['stem']:.2f}, stem and every expert "
            f"{sum(macs.values()):.2f}."
        )
    ]
    rates = records.usage["selection_rate"]
    rows = [
        (name.replace("_", " "), f"{cost:.2f}", f"{100 * rates.get(name, 1.0):.1f} %")
        for name, cost in sorted(macs.items(), key=lambda item: (item[0] != "stem", item[0]))
    ]
    columns = ("Part", "MMAC per segment", "Segments that ask it")
    parts.append(table("What each part costs", columns, rows))
    words = element("pre", records.architecture.rstrip())
    return join(*parts, element("h3", "Architecture and weights"), words)
