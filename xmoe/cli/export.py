"""``xmoe export``: a run -> a folder that answers with numpy and ONNX Runtime alone."""

from __future__ import annotations

from pathlib import Path

import click

from xmoe.cli.options import EXISTING_FOLDER, FOLDER, command
from xmoe.cli.output import Reply, make_table


@command("export")
@click.argument("run", type=EXISTING_FOLDER)
@click.option("--out", type=FOLDER, required=True, help="The folder to write; it must be new.")
@click.option("--format", "_format", type=click.Choice(["onnx"]), default="onnx", show_default=True)
def export(*, run: Path, out: Path, _format: str) -> Reply:
    """Write RUN, fitted in closed form, as files that a small machine answers with.

    OUT holds the stem, the router and each expert, and xmoe_lite, the program that reads them: it
    needs numpy and onnxruntime, and ai-edge-litert where an expert asks a LiteRT network. Answers
    are those of `xmoe infer`; explanations are not exported.
    """
    from xmoe.export.folder import READER, export_run

    done = export_run(run, out)
    shown = [(name, size) for name, size in done.sizes.items() if not name.startswith(READER)]
    table = make_table("", ("file", "bytes"), [(name, f"{size:,}") for name, size in shown])
    lines = [f"licence    {terms}" for terms in done.terms]
    lines.append(f"try it     cd {out} && python -m {READER} . RECORDING.wav")
    fields = {"run": run, "out": out, "files": done.sizes, "licences": done.terms}
    return Reply(fields, [table, *lines])
