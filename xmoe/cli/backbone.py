"""``xmoe backbone``: pretrained networks and their cards: list presets, write a card, check one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from xmoe.cli.edge import EXIT_INPUT, EXIT_OK
from xmoe.cli.options import ANY_PATH, EXISTING_FILE, command
from xmoe.cli.output import Reply, make_table


@click.group("backbone")
def backbone() -> None:
    """Pretrained networks as experts: list presets, write a card, check a card."""


@command("list")
def list_backbones() -> Reply:
    """Print the networks that `xmoe backbone init` knows, and whether their files are here."""
    from xmoe.backbones.presets import find_weights, read_presets

    rows = [
        {
            "name": name,
            "format": preset.fields["format"],
            "sample_rate_hz": preset.fields["sample_rate_hz"],
            "window_s": preset.fields["window_s"],
            "embedding_size": preset.fields["embedding_size"],
            "licence": preset.fields["licence"],
            "here": find_weights(name) is not None,
            "tried": preset.tried,
            "get": preset.get,
        }
        for name, preset in read_presets().items()
    ]
    columns = ("name", "format", "Hz", "window s", "size", "licence", "here", "tried")
    table = make_table("", columns, [list(row.values())[:-1] for row in rows])
    missing = [f"{row['name']}: {row['get']}" for row in rows if not row["here"]]
    return Reply({"backbones": rows}, [table, *missing])


@command("init")
@click.argument("name")
@click.option(
    "--file",
    "files",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="The network's file, or a folder that holds its files.",
)
@click.option("--out", type=ANY_PATH, help="The card to write.  [default: NAME.json]")
def init_backbone(*, name: str, files: tuple[Path, ...], out: Path | None) -> Reply:
    """Write the card of the preset NAME, and its files beside it.

    Nothing is downloaded: files come from an installed package or from --file.
    """
    from xmoe.backbones.presets import write_preset

    out = out or Path(f"{name}.json")
    card = write_preset(name, out, files)
    lines = [f"card     {out}", *(f"file     {file.path}" for file in card.files)]
    lines += [f"licence  {card.terms}", f"next     xmoe backbone check {out}"]
    return Reply({"card": out, **card.model_dump(mode="json")}, lines)


@command("check")
@click.argument("card", type=EXISTING_FILE)
@click.option(
    "--trust",
    multiple=True,
    metavar="NAME",
    help="A card, or a file of it, that may run code when it is opened.",
)
def check_card(*, card: Path, trust: tuple[str, ...]) -> Reply:
    """Open the network of CARD, let it hear sounds, and say what is wrong and what it costs."""
    from xmoe.backbones import read_card
    from xmoe.backbones.check import check_backbone

    described = read_card(card)
    checked = check_backbone(described, card.parent, trust=trust)
    rows = [vars(finding) for finding in checked.findings]
    cells = [[row["name"], "ok" if row["ok"] else "WRONG", row["found"]] for row in rows]
    mends = [f"{row['name']}: {row['mend']}" for row in rows if not row["ok"] and row["mend"]]
    macs = "not known" if checked.macs is None else f"{checked.macs / 1e6:.1f} M"
    cost = "not known" if checked.ms_per_window is None else f"{checked.ms_per_window:.1f} ms"
    lines: list[Any] = [
        make_table("", ("check", "", "found"), cells),
        *mends,
        f"cost     {cost}, {macs} multiply-adds a window of {described.window_s:g} s, one thread",
        f"licence  {described.terms}",
    ]
    fields = {
        "ok": checked.ok,
        "card": card,
        "findings": rows,
        "ms_per_window": checked.ms_per_window,
        "macs": checked.macs,
        "licence": described.licence,
        "non_commercial": described.non_commercial,
    }
    return Reply(fields, lines, EXIT_OK if checked.ok else EXIT_INPUT)


for _command in (list_backbones, init_backbone, check_card):
    backbone.add_command(_command)
