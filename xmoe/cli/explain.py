"""``xmoe explain``: a run folder + a recording -> why this answer, drawn and in numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xmoe.cli.figures import EXPLAINED
from xmoe.cli.options import ANY_PATH, EXISTING_FOLDER_OR_ADDRESS, FOLDER, command
from xmoe.cli.output import Reply, make_table

if TYPE_CHECKING:
    from xmoe.base.config import Device


@command("explain")
@click.argument("run", type=EXISTING_FOLDER_OR_ADDRESS)
@click.argument("file", type=ANY_PATH)
@click.option("--out", type=FOLDER, required=True, help="Where the pictures go.")
@click.option(
    "--method",
    type=click.Choice(["gradcam", "saliency", "gradient_x_input", "occlusion"]),
    default="gradcam",
    show_default=True,
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
def explain(*, run: Path | str, file: Path, out: Path, method: str, device: Device) -> Reply:
    """Show why the classifier in RUN answers as it does for FILE.

    Writes gradcam.png (why this label), why_experts.png, why_k.png, saliency_router.png (what the
    router looks at), patch_routing.png (which experts, how many, where) and explanation.json (all
    of it as numbers). Experts that hear sound are drawn on their own spectrograms.
    """
    from xmoe.pipeline.classifier import MoEAudioClassifier

    classifier = MoEAudioClassifier.load(run, device=device)
    record = classifier.explain(file, method=method, save_dir=out)
    return Reply({"file": file, "out": out, **record}, describe_explanation(record, out))


def describe_explanation(record: dict[str, Any], out: Path) -> list[Any]:
    probability = record["probabilities"][record["answer"]]
    rows = [
        (
            use["name"],
            f"{use['weight']:.2f}",
            "{:.0f} - {:.0f} Hz".format(*use["band_hz"]),
            ", ".join(f"{first:.2f}-{last:.2f} s" for first, last in use["spans_s"]),
        )
        for use in record["experts"]
    ]
    lines: list[Any] = [f"answer {record['answer']} (p = {probability:.3f}), K = {record['k']}"]
    if whole := record.get("recording"):
        doubt = ", uncertain" if whole["uncertain"] else ""
        if whole["segments"] > 1:
            lines[0] += " for {:.2f}-{:.2f} s".format(*whole["shown_s"])
            lines.append(
                f"that is the surest of {whole['segments']} segments; the whole recording is "
                f"answered {whole['label']} (p = {whole['probability']:.3f}{doubt})"
            )
        elif doubt:
            lines[0] += doubt
    if rows:
        lines.append(make_table("", ("expert", "weight", "band", "looks at"), rows))
    lines += [f"{lead}: {record['sentences'][name]}" for name, lead in EXPLAINED.items()]
    return [*lines, *(str(out / name) for name in record["files"])]
