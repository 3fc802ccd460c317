"""Options that several commands share, and the types that check them where they enter."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from xmoe.cli.edge import ResultsOnly, Session
from xmoe.cli.output import Reply

Function = TypeVar("Function", bound=Callable[..., Any])
Decorator = Callable[[Callable[..., Reply]], Callable[..., Reply]]


class OrAddress(click.Path):
    """A path as click checks it, or the address of an object store, which stays text."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Address as it is; what it names is checked by who reads or writes it."""
        return str(value) if "://" in str(value) else super().convert(value, param, ctx)


class FolderHere(click.Path):
    """A folder of this machine; an address is refused by that name."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if "://" in str(value):
            self.fail(f"{value} is an address; name a folder here, or copy it here first", param)
        return super().convert(value, param, ctx)


class FiniteRange(click.FloatRange):
    """A number within bounds that is neither NaN nor infinite."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number", param)
        return number


FOLDER = FolderHere(path_type=Path, file_okay=False)
EXISTING_FOLDER = FolderHere(path_type=Path, file_okay=False, exists=True)
EXISTING_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
ANY_PATH = click.Path(path_type=Path)
FOLDER_OR_ADDRESS = OrAddress(path_type=Path, file_okay=False)
EXISTING_FOLDER_OR_ADDRESS = OrAddress(path_type=Path, file_okay=False, exists=True)
EXISTING_FILE_OR_ADDRESS = OrAddress(path_type=Path, dir_okay=False, exists=True)


class Range(click.ParamType):  # type: ignore[type-arg]  # generic since 8.4
    """``LO:HI`` -> two rising numbers, LO not below ``lowest``."""

    name = "LO:HI"

    def __init__(self, unit: str, *, lowest: float = 0.0) -> None:
        self._unit = unit
        self._lowest = lowest

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, float]:
        if isinstance(value, tuple):
            return value
        try:
            low, high = (float(part) for part in str(value).split(":"))
        except ValueError:
            self.fail(f"{value!r} is not two numbers in {self._unit} as LO:HI", param)
        if not self._lowest <= low < high < float("inf"):
            self.fail(f"{value!r}: LO must be at least {self._lowest:g} and below HI", param)
        return low, high


class Budget(click.ParamType):  # type: ignore[type-arg]
    """``latency``, ``accuracy``, a share of it, a mean number of experts, or mean milliseconds."""

    name = "latency|accuracy|NUMBER%|NUMBER|NUMBERms"

    def convert(self, value: Any, param: Any, ctx: Any) -> str | float:
        if value in ("latency", "accuracy"):
            return str(value)
        try:
            number = float(str(value).removesuffix("ms").removesuffix("%"))
        except ValueError:
            number = -1.0
        if not 0 <= number < float("inf"):
            known = "latency, accuracy, 99%, a number from 0 up or milliseconds such as 20ms"
            self.fail(f"{value!r} is none of {known}", param)
        return str(value) if str(value).endswith(("ms", "%")) else number


class Percent(click.ParamType):  # type: ignore[type-arg]
    """``5%`` or ``0.05`` -> a share above 0, at most 1."""

    name = "PERCENT%"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        text = str(value)
        try:
            number = float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
        except ValueError:
            number = 0.0
        if not 0.0 < number <= 1.0:
            self.fail(f"{value!r} is no share such as 5%", param)
        return number


class WorkerCount(click.ParamType):  # type: ignore[type-arg]
    """How many workers, or the fewest and the most: ``2``, or ``1:4``."""

    name = "N|MIN:MAX"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | tuple[int, int]:
        if isinstance(value, (int, tuple)):
            return value
        parts = str(value).split(":")
        numbers = [int(part) for part in parts if part.isascii() and part.isdigit()]
        if len(numbers) != len(parts) or len(parts) > 2 or not 1 <= numbers[0] <= numbers[-1]:
            self.fail(f"{value!r} is neither a number from 1 up nor two rising ones", param)
        return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


class ExpertNames(click.ParamType):  # type: ignore[type-arg]
    """How many experts, or which: ``4``, or ``low,high``."""

    name = "N|NAME,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> int | tuple[str, ...]:
        if isinstance(value, (int, tuple)):
            return value
        text = str(value).strip()
        if text.isdigit() and int(text) > 0:
            return int(text)
        names = tuple(part.strip() for part in text.split(","))
        if not all(name.isidentifier() for name in names):
            self.fail(f"{value!r} is neither a number nor names with commas between", param)
        return names


def all_of(*options: Decorator) -> Decorator:
    """Several options as one decorator, in the order of the help text."""

    def add(function: Callable[..., Reply]) -> Callable[..., Reply]:
        for option in reversed(options):
            function = option(function)
        return function

    return add


metadata_option = click.option(
    "--metadata", type=EXISTING_FILE_OR_ADDRESS, help="The manifest; found by itself if left out."
)
test_fold_option = click.option(
    "--test-fold", type=int, help="Which fold is the test set, where folds are given."
)
# Labelled recordings with their splits.
dataset_options = all_of(
    click.option(
        "--dataset",
        type=EXISTING_FOLDER_OR_ADDRESS,
        required=True,
        help="Folder of recordings, here or at s3://, gs://.",
    ),
    metadata_option,
    test_fold_option,
)
# How answers to many recordings are computed.
ray_options = all_of(
    click.option("--engine", type=click.Choice(["auto", "loop", "ray"]), default="auto"),
    click.option("--workers", type=click.IntRange(1), help="Actors on Ray; all processors."),
)
# How recordings are read.
reading_options = all_of(
    click.option(
        "--channel", type=click.IntRange(1), help="Listen to this one; the mean of all if left out."
    ),
    click.option(
        "--time-expansion",
        type=FiniteRange(1.0),
        default=1.0,
        help="How many times slower than life the files are, as of bat detectors: 10.",
    ),
)


def command(
    name: str, *, takes_command: bool = False
) -> Callable[[Callable[..., Reply]], click.Command]:
    """Make a function that returns a ``Reply`` a command with ``--json``, ``-v`` and ``-q``.

    These go to the session, not to the function. With ``takes_command`` everything after the first
    argument belongs to that.
    """
    settings = {"allow_interspersed_args": not takes_command}

    def make(function: Callable[..., Reply]) -> click.Command:
        flags = all_of(
            _session_flag("--json", "as_json", "Print exactly one JSON object."),
            _session_flag("-v", "verbose", "Show the trace of an error.", "--verbose"),
            _session_flag("-q", "quiet", "Show no progress.", "--quiet"),
        )
        return click.command(name, cls=ResultsOnly, context_settings=settings)(flags(function))

    return make


def session() -> Session:
    found = click.get_current_context().find_object(Session)
    return found if found is not None else Session()


def repeat_command() -> str:
    """The command line that is running, without --resume, for a shell."""
    context = click.get_current_context()
    words = ["xmoe", str(context.info_name)]
    for option in context.command.params:
        name = str(option.name)
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if not given or name not in context.params or name == "resume":
            continue
        value = context.params[name]
        for one in value if getattr(option, "multiple", False) else [value]:
            words.append(option.opts[0])
            if isinstance(one, tuple):
                words.append(("," if isinstance(one[0], str) else ":").join(map(str, one)))
            elif one is not True:
                words.append(str(one))
    return shlex.join(words)


def _session_flag(flag: str, name: str, text: str, *more: str) -> Callable[[Function], Function]:
    def note(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        if value:
            setattr(ctx.ensure_object(Session), name, True)

    return click.option(
        flag, *more, is_flag=True, expose_value=False, is_eager=True, callback=note, help=text
    )
