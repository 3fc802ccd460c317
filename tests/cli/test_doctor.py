"""``xmoe doctor`` prints one line per check and fails when something needed is broken."""

import json

import pytest

from xmoe.cli import main
from xmoe.doctor import Check


@pytest.fixture
def found(monkeypatch):
    """Let a test say what the doctor finds."""

    def say(*checks: Check) -> None:
        monkeypatch.setattr("xmoe.doctor.run_checks", lambda *_, **__: list(checks))

    return say


def test_all_well(found, capsys):
    found(Check("torch", "ok", "torch 2.11"))
    with pytest.raises(SystemExit) as left:
        main(["doctor"])
    assert left.value.code == 0
    assert capsys.readouterr().out.splitlines() == [
        "ok   torch      torch 2.11",
        "xmoe can work here.",
    ]


def test_a_broken_library_is_exit_code_1_with_the_mend(found, capsys):
    found(Check("torch", "fail", "no such library", "install it"), Check("disk", "ok", "9 GiB"))
    with pytest.raises(SystemExit) as left:
        main(["doctor", "--json"])
    fields = json.loads(capsys.readouterr().out)
    assert left.value.code == 1
    assert fields["ok"] is False
    assert fields["checks"][0]["mend"] == "install it"
