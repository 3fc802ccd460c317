"""``xmoe serve``: a run folder -> an HTTP endpoint, until Ctrl-C."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

import click

from xmoe.cli.options import EXISTING_FILE, FOLDER, FiniteRange, command, session
from xmoe.cli.output import Reply

if TYPE_CHECKING:
    from xmoe.serve.settings import ServeSettings, Topology
    from xmoe.serve.start.session import Ingress


@command("serve")
@click.argument("run")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65_535), default=8000, show_default=True)
@click.option(
    "--topology",
    type=click.Choice(["distributed", "colocated"]),
    default="distributed",
    show_default=True,
    help="One deployment per expert, or the experts inside the router.",
)
@click.option(
    "--ingress",
    type=click.Choice(["auto", "haproxy", "python"]),
    default="auto",
    show_default=True,
    help="What takes the requests in: HAProxy where it came with Ray, or Ray's own proxy.",
)
@click.option("--address", help="Join the Ray cluster at HOST:PORT; left out: a Ray of its own.")
@click.option(
    "--name",
    default="xmoe",
    show_default=True,
    help="The application's name; on a cluster its routes begin with /NAME.",
)
@click.option("--replace", is_flag=True, help="Take the place of an application of that name.")
@click.option("--deadline-ms", type=FiniteRange(1.0), help="Per request; 2000 if left out.")
@click.option(
    "--routers",
    type=click.IntRange(1),
    help="Processes that take requests; left out: one, or one per processor if colocated.",
)
@click.option("--token-file", type=EXISTING_FILE, help="One line that requests must carry.")
@click.option("--corrections", type=FOLDER, help="Where corrections go; RUN/corrected if left out.")
@click.option("--keep-sounds", is_flag=True, help="Keep the recordings that people correct, too.")
@click.option(
    "--logs",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How replicas write their logs; json has a line for each request.",
)
def serve(
    *,
    run: str,
    host: str,
    port: int,
    topology: Topology,
    ingress: Ingress,
    address: str | None,
    name: str,
    replace: bool,
    deadline_ms: float | None,
    routers: int | None,
    token_file: Path | None,
    corrections: Path | None,
    keep_sounds: bool,
    logs: Literal["text", "json"],
) -> Reply:
    """Serve the classifier in RUN, a folder or an s3:// or gs:// address, until Ctrl-C.

    The address and a line that tries it are printed once it is ready. Without a token only this
    machine is listened to; one is taken from --token-file or from XMOE_TOKEN. With --address it
    joins a cluster, and only its own application is stopped at the end.
    """
    from xmoe.serve.settings import (
        CorrectionSettings,
        FaultSettings,
        HttpSettings,
        RouterSettings,
        ServeSettings,
    )
    from xmoe.serve.start.cluster import Place
    from xmoe.serve.start.quiet import quietly
    from xmoe.serve.start.session import serving, wait_for_signal

    where = run if "://" in run else str(Path(run).resolve())
    faults = FaultSettings() if deadline_ms is None else FaultSettings(deadline_ms=deadline_ms)
    settings = ServeSettings(
        run=where,
        topology=topology,
        logs=logs,
        router=RouterSettings(replicas=routers),
        faults=faults,
        http=HttpSettings(token_file=None if token_file is None else str(token_file.resolve())),
        corrections=CorrectionSettings(
            folder=None if corrections is None else str(corrections.resolve()),
            keep_sounds=keep_sounds,
        ),
    )
    place = Place(address=address, name=name, replace=replace)
    screen, quiet = sys.stderr, session().quiet

    def say(line: str) -> None:
        if not quiet:
            click.echo(line, file=screen)

    log = Path(tempfile.gettempdir()) / f"xmoe-serve-{os.getpid()}.log"
    say(f"log      {log}")
    service = serving(settings, host=host, port=port, ingress=ingress, place=place)
    with open_log(log) as kept, quietly(service, kept, name=name, say=say) as url:
        for line in describe_start(url, settings):
            click.echo(line, err=True)
        wait_for_signal()
        say("draining ...")
    return Reply({"ok": True, "run": run, "address": url, "topology": topology})


@contextmanager
def open_log(path: Path) -> Iterator[TextIO]:
    """A new file, removed at the end if nothing was written: a service that refused to start."""
    try:
        with path.open("w", encoding="utf-8") as log:
            yield log
    finally:
        if not path.stat().st_size:
            path.unlink()


def describe_start(address: str, settings: ServeSettings) -> list[str]:
    from xmoe.serve.guard.tokens import EVERYONE, read_tokens

    file, variable = settings.http.token_file, settings.http.token_variable
    header = ""
    if tokens := read_tokens(settings.http):
        one = EVERYONE in tokens
        where = f"$(cat {shlex.quote(file)})" if file else f"${variable}"
        source = where if one else "$TOKEN"
        header = f'-H "Authorization: Bearer {source}" '
    return [
        f"serving  {settings.run} ({settings.topology})",
        f"address  {address}",
        f"try it   curl {header}--data-binary @clip.wav {address}/v1/classify",
        "stop     Ctrl-C",
    ]
