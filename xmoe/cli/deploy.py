"""``xmoe deploy``, ``promote``, ``rollback``, ``versions``: runs on a cluster that stands, as
software is released.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xmoe.cli.options import EXISTING_FILE, FiniteRange, Percent, all_of, command, session
from xmoe.cli.output import Reply, make_table

if TYPE_CHECKING:
    from xmoe.serve.deploy.registry import Mode, State
    from xmoe.serve.deploy.release import Order, Releases
    from xmoe.serve.settings import ServeSettings
    from xmoe.serve.start.stage import ServeStage

EVERYTHING = 1.0


# The registry, and which application on which cluster.
release_options = all_of(
    click.option(
        "--registry",
        envvar="XMOE_REGISTRY",
        show_envvar=True,
        required=True,
        help="Folder of versions that every node sees, or an s3:// or gs:// address.",
    ),
    click.option(
        "--address",
        envvar="RAY_ADDRESS",
        show_envvar=True,
        default="auto",
        show_default=True,
        help="HOST:PORT of the Ray cluster; auto is the one that runs on this machine.",
    ),
    click.option("--name", default="xmoe", show_default=True, help="The application's name."),
    click.option("--why", default="", help="Kept in the registry."),
    click.option(
        "--within",
        "within_s",
        type=FiniteRange(1.0),
        default=600.0,
        show_default=True,
        help="Seconds until a version must be ready.",
    ),
)


@command("deploy")
@click.argument("run")
@release_options
@click.option(
    "--settings",
    "settings_file",
    type=EXISTING_FILE,
    help="JSON or YAML, a file of deployments/ too; those of the served version if left out.",
)
@click.option("--topology", type=click.Choice(["distributed", "colocated"]))
@click.option("--token-file", type=EXISTING_FILE, help="Tokens, in a file that every node has.")
@click.option("--shadow", is_flag=True, help="Try it: it hears what is answered, unheard itself.")
@click.option("--canary", type=Percent(), help="Try it: it answers that share of recordings.")
@click.option("--force", is_flag=True, help="Deploy it whatever the checks object to.")
@click.option("--replace", is_flag=True, help="Take the place of an application of that name.")
@click.option(
    "--may-lose",
    type=Percent(),
    default="2%",
    show_default=True,
    help="Of accuracy, against the served run, on the test clips of both.",
)
@click.option("--host", default="127.0.0.1", help="Where Serve listens, if it does not run yet.")
@click.option("--port", type=click.IntRange(1, 65_535), default=8000)
def deploy(*, run: str, shadow: bool, canary: float | None, **asked: Any) -> Reply:
    """Check RUN, roll it out on a Ray cluster, and take it back if it does not answer as here.

    RUN must load, answer made sounds as it did when it was trained, and be no worse than the run
    that is served. With --shadow or --canary it runs beside that one until `xmoe promote` or `xmoe
    rollback`.
    """
    from xmoe.serve.deploy.preflight import judge_run, rehearse
    from xmoe.serve.deploy.registry import Registry
    from xmoe.serve.deploy.release import Order, refuse

    if shadow and canary is not None:
        raise click.UsageError("--shadow and --canary are two trials: give one of them")
    mode: Mode | None = "shadow" if shadow else None if canary is None else "canary"
    order = Order(
        why=asked["why"],
        mode=mode,
        share=EVERYTHING if canary is None else canary,
        force=asked["force"],
        replace=asked["replace"],
    )
    registry = Registry(asked["registry"], asked["name"])
    version = registry.read().served
    served = None if version is None else version.settings
    where = run if "://" in run else str(Path(run).resolve())
    settings = make_settings(where, served, asked)
    check_before(settings, asked)
    rehearsal = rehearse(settings)
    verdict = judge_run(settings, rehearsal, served, may_lose=asked["may_lose"])
    for line in verdict.found:
        say(line)
    refuse(verdict, order)
    with open_releases(asked, settings, order) as (releases, stage):
        state = releases.deploy(settings, rehearsal, verdict, order)
        return describe_state(state, stage)


def make_settings(run: str, served: ServeSettings | None, asked: dict[str, Any]) -> ServeSettings:
    """How a run is served: by a file, else as the version before, and by the options."""
    from xmoe.run.remote import fetched
    from xmoe.serve.start.build import check_settings

    file = asked["settings_file"]
    given: dict[str, Any] = {}
    if file is not None:
        given = read_settings(file)
    elif served is not None:
        given = served.model_dump(mode="json")
        with fetched(run, []) as folder:
            known = folder.read_config().model.expert_names
        given["experts"] = {n: e for n, e in given["experts"].items() if n in known}
    given["run"] = run
    if asked["topology"] is not None:
        given["topology"] = asked["topology"]
    if asked["token_file"] is not None:
        given.setdefault("http", {})["token_file"] = str(asked["token_file"].resolve())
    return check_settings(given)


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a file, or the arguments of the one application in it."""
    import yaml

    from xmoe.base.errors import ConfigError

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML
        if isinstance(found, dict) and "applications" in found:
            (application,) = found["applications"]
            found = application["args"]
    except (yaml.YAMLError, OSError, UnicodeDecodeError, ValueError, LookupError, TypeError) as why:
        reason = str(why).splitlines()[0]
        mend = "write settings as docs/serving.md has them, or name a file of deployments/"
        raise ConfigError(f"no settings: {reason}", where=str(path), mend=mend) from why
    if not isinstance(found, dict):
        raise ConfigError("no settings: not a table", where=str(path), mend="see deployments/")
    return found


def check_before(settings: ServeSettings, asked: dict[str, Any]) -> None:
    """Raise ConfigError for what would be refused later: tokens, the address, experts' names."""
    from xmoe.serve.start.build import build_application
    from xmoe.serve.start.session import check_address, check_token_travels

    check_address(asked["host"], settings)
    check_token_travels(settings, place_of(asked))
    build_application(settings)


def place_of(asked: dict[str, Any]) -> Any:
    from xmoe.serve.start.cluster import Place

    return Place(address=asked["address"], name=asked["name"], replace=True)


@contextmanager
def open_releases(
    asked: dict[str, Any], settings: ServeSettings | None = None, order: Order | None = None
) -> Iterator[tuple[Releases, ServeStage]]:
    """Join the cluster, start Serve there for ``settings`` if it does not run, and give both."""
    from xmoe.base.errors import ConfigError
    from xmoe.serve.deploy.registry import Registry
    from xmoe.serve.deploy.release import Releases
    from xmoe.serve.start.cluster import check_room, connected_to, look_around
    from xmoe.serve.start.session import check_address, check_port, http_options, start_serve
    from xmoe.serve.start.stage import ServeStage

    place = place_of(asked)
    stage = ServeStage(place, within_s=asked["within_s"], say=say)
    releases = Releases(Registry(asked["registry"], place.name), stage, say=say)
    session().resume_hint = "what runs is unknown until: xmoe rollback"
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)  # of the cluster
    with connected_to(place.address):
        logging.getLogger("ray.serve").setLevel(logging.ERROR)  # its steps are told in our words
        around = look_around()
        if around is None and settings is None:
            raise ConfigError("Serve does not run there", where="--address", mend="xmoe deploy RUN")
        if around is not None:
            check_room(around, place)
        if settings is not None:
            assert order is not None
            releases.check(order)
            if around is None:
                check_port(asked["host"], asked["port"])
                start_serve(http_options(settings, asked["host"], asked["port"]))
            else:
                check_address(around.http_options.host or asked["host"], settings)
        yield releases, stage


def say(line: str) -> None:
    if not session().quiet:
        click.echo(line, err=True)


@command("promote")
@release_options
@click.option("--force", is_flag=True, help="Even if it answered nothing yet, or failed often.")
def promote(*, why: str, force: bool, **asked: Any) -> Reply:
    """Serve the version that is on trial to all, and end the trial."""
    with open_releases(asked) as (releases, stage):
        return describe_state(releases.promote(why=why, force=force), stage)


@command("rollback")
@release_options
def rollback(*, why: str, **asked: Any) -> Reply:
    """Undo the last step: end the trial, or serve the version before again.

    Also what a command left behind that was killed while it rolled out.
    """
    with open_releases(asked) as (releases, stage):
        return describe_state(releases.rollback(why=why), stage)


@command("versions")
@release_options
@click.option("--trial", is_flag=True, help="Ask the routers what came of the trial so far.")
def versions(*, trial: bool, **asked: Any) -> Reply:
    """List what was deployed, by whom and why, and what is served and on trial."""
    from xmoe.serve.deploy.registry import Registry
    from xmoe.serve.deploy.release import describe_count

    state = Registry(asked["registry"], asked["name"]).read()
    rows = [
        (
            version.number,
            alias_of(state, version.number),
            Path(version.settings.run).name,
            version.weights_sha256[:12],
            version.figures.get("map", version.figures.get("accuracy")),
            version.at[:16],
            version.by,
            version.why,
        )
        for version in state.versions
    ]
    names = ("version", "is", "run", "weights", "figure", "deployed", "by", "why")
    shown: list[Any] = [make_table("", names, rows), f"last      {describe_change(state)}"]
    fields: dict[str, Any] = {"state": state}
    if trial and state.trial is not None:
        with open_releases(asked) as (_, stage):
            count = stage.count()
        shown.append(f"trial     {describe_count(state.trial, count)}")
        fields["trial"] = count
    return Reply(fields, shown)


def alias_of(state: State, number: int) -> str:
    names = {state.rolling: "rolling out", state.candidate: "candidate"}
    return {state.production: "production", **names}.get(number, "")


def describe_change(state: State) -> str:
    change = state.change
    told = f"{change.what} {change.version or ''} {change.at} {change.by}".strip()
    return told + "".join(f"; {text}" for text in (change.why, change.note) if text)


def describe_state(state: State, stage: ServeStage) -> Reply:
    address = stage.address
    shown = [describe_change(state)]
    if state.served is not None:
        shown.append(f"serving   version {state.production}, {state.served.settings.run}")
        shown.append(f"address   {address}")
    if state.trial is not None:
        shown.append("next: xmoe versions --trial, then xmoe promote or xmoe rollback")
    fields = {
        "ok": True,
        "what": state.change.what,
        "version": state.change.version,
        "production": state.production,
        "candidate": state.candidate,
        "address": address,
        "note": state.change.note,
    }
    return Reply(fields, shown)
