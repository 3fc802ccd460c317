"""Options are checked where they enter; the common ones reach the session."""

import shlex

import click
import pytest

from xmoe.cli.edge import run
from xmoe.cli.options import (
    EXISTING_FOLDER,
    EXISTING_FOLDER_OR_ADDRESS,
    FOLDER,
    Budget,
    ExpertNames,
    FiniteRange,
    Percent,
    Range,
    WorkerCount,
    command,
    repeat_command,
    session,
)
from xmoe.cli.output import Reply


def test_range_is_two_rising_numbers():
    assert Range("Hz").convert("50:8000", None, None) == (50.0, 8000.0)
    assert Range("dB", lowest=-100.0).convert("-18:8", None, None) == (-18.0, 8.0)
    for wrong in ("50", "8000:50", "-1:50", "a:b", "1:2:3", "1:inf", "nan:2"):
        with pytest.raises(click.BadParameter, match="LO"):
            Range("Hz").convert(wrong, None, None)


def test_a_number_within_bounds_is_finite():
    assert FiniteRange(0.0).convert("0.5", None, None) == 0.5
    for wrong in ("nan", "inf", "-1"):
        with pytest.raises(click.BadParameter):
            FiniteRange(0.0).convert(wrong, None, None)


@pytest.mark.parametrize("kind", [FOLDER, EXISTING_FOLDER])
def test_where_a_folder_here_is_wanted_an_address_is_called_by_its_name(kind, tmp_path):
    assert kind.convert(str(tmp_path), None, None) == tmp_path
    with pytest.raises(click.BadParameter, match="s3://b/run is an address; name a folder here"):
        kind.convert("s3://b/run", None, None)


def test_budget_is_a_word_a_number_or_milliseconds():
    assert Budget().convert("latency", None, None) == "latency"
    assert Budget().convert("1.5", None, None) == 1.5
    assert Budget().convert("20ms", None, None) == "20ms"
    for wrong in ("fast", "-1", "nan", "inf", "ms", "-1ms", "infms"):
        with pytest.raises(click.BadParameter):
            Budget().convert(wrong, None, None)


@pytest.mark.parametrize("flag", ["-v", "-q", "--json"])
def test_common_options_reach_the_session(flag, capsys):
    seen = []

    @command("looks")
    def looks() -> Reply:
        seen.append(session())
        return Reply({})

    run(looks, [flag])
    found = {"-v": seen[0].verbose, "-q": seen[0].quiet, "--json": seen[0].as_json}
    assert found == {name: name == flag for name in found}


def test_experts_are_a_number_or_names():
    assert ExpertNames().convert("4", None, None) == 4
    assert ExpertNames().convert("low, high", None, None) == ("low", "high")
    for wrong in ("0", "-1", "low;high", ""):
        with pytest.raises(click.BadParameter):
            ExpertNames().convert(wrong, None, None)


def test_workers_are_a_number_or_the_fewest_and_the_most():
    assert WorkerCount().convert("4", None, None) == 4
    assert WorkerCount().convert("1:4", None, None) == (1, 4)
    for wrong in ("0", "0:2", "4:1", "1:2:3", "-1", "", ":", "a:b", "1.5"):
        with pytest.raises(click.BadParameter, match="rising"):
            WorkerCount().convert(wrong, None, None)


def test_percent_is_a_share():
    assert Percent().convert("5%", None, None) == 0.05
    assert Percent().convert("0.25", None, None) == 0.25
    assert Percent().convert("100%", None, None) == 1.0
    for wrong in ("0", "101%", "five", "-1", "2"):
        with pytest.raises(click.BadParameter, match="no share"):
            Percent().convert(wrong, None, None)


def test_a_command_is_repeated_as_it_was_given_but_for_resuming(capsys):
    @command("again")
    @click.option("--resume", is_flag=True)
    @click.option("--local", is_flag=True)
    @click.option("--card", "cards", multiple=True)
    @click.option("--band", type=Range("Hz"))
    @click.option("--workers", type=WorkerCount(), default=1)
    @click.option("--experts", type=ExpertNames())
    def again(**asked):
        return Reply({"line": repeat_command()}, [repeat_command()])

    given = (
        "--local --card one --card 'the other' --band 20.0:400.0 --workers 1:4 --experts low,high"
    )
    assert run(again, [*shlex.split(given), "--resume"]) == 0
    assert capsys.readouterr().out.strip() == f"xmoe xmoe {given}"
    assert run(again, []) == 0
    assert capsys.readouterr().out.strip() == "xmoe xmoe"


def test_an_address_stays_text_and_a_path_is_checked(tmp_path):
    kind = EXISTING_FOLDER_OR_ADDRESS
    assert kind.convert("s3://bucket/set", None, None) == "s3://bucket/set"
    assert kind.convert(str(tmp_path), None, None) == tmp_path
    with pytest.raises(click.BadParameter, match="does not exist"):
        kind.convert(str(tmp_path / "none"), None, None)
