"""The ``xmoe`` command: arguments -> one call of the Python API -> one reply.

Command files hold options and wording only; whatever is heavy (torch, Ray, numpy) is imported
inside the command that needs it, so that ``xmoe --help`` answers at once.
"""

from __future__ import annotations

import atexit
import gc
import os
import platform
import sys
from collections.abc import Sequence

import click

from xmoe import __version__
from xmoe.cli.annotations import cut_annotations
from xmoe.cli.backbone import backbone
from xmoe.cli.demo import demo
from xmoe.cli.deploy import deploy, promote, rollback, versions
from xmoe.cli.edge import EXIT_CODES_HELP, run
from xmoe.cli.evaluate import evaluate
from xmoe.cli.expert import calibrate, expert, update
from xmoe.cli.explain import explain
from xmoe.cli.export import export
from xmoe.cli.infer import infer
from xmoe.cli.plan import plan
from xmoe.cli.profile import profile
from xmoe.cli.report import report
from xmoe.cli.serve import serve
from xmoe.cli.size import size
from xmoe.cli.submit import submit
from xmoe.cli.suggest import suggest
from xmoe.cli.synth import synth
from xmoe.cli.train import train


@click.group(epilog=EXIT_CODES_HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="xmoe")
def cli() -> None:
    """Classify recordings by a mixture of experts that explanations route.

    \b
    xmoe synth DIR                            make a labelled set to try things on
    xmoe annotations DIR --out SET            cut a set from annotated long recordings
    xmoe profile DIR                          measure a set of recordings
    xmoe train --dataset DIR --out RUN        decide, train, evaluate
    xmoe infer RUN FILE...                    answer for recordings
    xmoe explain RUN FILE --out DIR           show why
    xmoe report RUN                           one page on all of it
    xmoe report --compare RUN1 RUN2           what the second run does better, and how surely
    xmoe suggest RUN --input DIR              which recordings to label next
    xmoe expert list RUN                      experts, what each costs and adds
    xmoe backbone init NAME                   a pretrained network as an expert
    xmoe calibrate RUN --budget 20ms          another budget, costs of this machine
    xmoe update RUN --dataset MORE            more labelled clips, in seconds
    xmoe size RUN                             memory of the processes that serve it
    xmoe plan RUN --rps 2000 --p99-ms 100     replicas, nodes and cost that answer so many
    xmoe serve RUN                            answer over HTTP
    xmoe export RUN --out DIR                 answer on a small machine, without torch
    xmoe deploy RUN [--shadow|--canary 5%]    check, roll out on a cluster, take back by itself
    xmoe promote | rollback | versions        end a trial, undo the last step, list them all
    xmoe submit COMMAND ...                   any of them as a job on a Ray cluster
    """


for _command in (
    demo,
    synth,
    cut_annotations,
    profile,
    train,
    evaluate,
    infer,
    explain,
    report,
    suggest,
    expert,
    backbone,
    calibrate,
    update,
    size,
    plan,
    serve,
    export,
    deploy,
    promote,
    rollback,
    versions,
    submit,
):
    cli.add_command(_command)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code.

    Torch's threads are told to sleep while they wait: where other work shares the cores, threads
    that spin make a training step ten times as long. Those of numpy and scipy cannot sleep, and
    have small products to make: there is one (on ARM torch would lose its own). At its end the
    interpreter would search all that torch and Ray hold for garbage, for a second.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if platform.machine() in ("x86_64", "AMD64"):
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    atexit.register(gc.freeze)
    sys.exit(run(cli, sys.argv[1:] if args is None else args))
