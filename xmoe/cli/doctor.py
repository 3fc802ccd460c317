"""``xmoe doctor``: what is installed, what works, and how to mend what does not."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from xmoe.cli.edge import EXIT_FAILED, EXIT_OK
from xmoe.cli.options import FOLDER, command
from xmoe.cli.output import Reply


@command("doctor")
@click.option("--no-ray", is_flag=True, help="Do not start Ray (saves some seconds).")
@click.option("--out", type=FOLDER, default=Path(), help="Where runs will be written.")
def doctor(*, no_ray: bool, out: Path) -> Reply:
    """Say what is installed, what works and what to fix.

    Exit code 1 when something that xmoe needs does not work.
    """
    from xmoe.doctor import run_checks

    checks = run_checks(out, with_ray=not no_ray)
    works = all(check.status != "fail" for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.status:<5}{check.name:<10} {check.found}")
        if check.mend:
            lines.append(f"{'':<16}to fix it: {check.mend}")
    lines.append("xmoe can work here." if works else "xmoe cannot work here yet.")
    fields = {"ok": works, "checks": [asdict(check) for check in checks]}
    return Reply(fields, lines, EXIT_OK if works else EXIT_FAILED)
