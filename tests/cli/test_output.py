"""One strict JSON object for programs; short numbers, intervals and dashes for people."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from xmoe.base.config import SpectroConfig
from xmoe.cli.output import Reply, format_cell, make_table, print_reply, to_json_line


def test_json_takes_what_commands_hold():
    value = {
        "path": Path("runs/exp1"),
        "count": np.int64(3),
        "curve": np.array([0.5, np.nan]),
        "config": SpectroConfig(),
        "bad": float("inf"),
    }
    line = to_json_line(value)
    assert line.endswith("\n")
    assert "\n" not in line[:-1]
    back = json.loads(line)
    assert back["path"] == "runs/exp1"
    assert back["count"] == 3
    assert back["curve"] == [0.5, None]
    assert back["config"]["sample_rate_hz"] == 16000
    assert back["bad"] is None


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, "-"),
        (True, "yes"),
        (0.123456, "0.1235"),
        ((0.5, 0.75), "[0.5, 0.75]"),
        (12, "12"),
        ("low", "low"),
    ],
)
def test_cells(value, cell):
    assert format_cell(value) == cell


def test_table_and_text_are_printed_as_they_are():
    stream = io.StringIO()
    table = make_table("Scores", ["set", "accuracy"], [["test", 0.98765]])
    print_reply(Reply({}, [table, "see [runs/exp1]"]), stream, as_json=False)
    shown = stream.getvalue()
    assert "0.9877" in shown
    assert shown.endswith("see [runs/exp1]\n")


def test_json_reply_is_one_line():
    stream = io.StringIO()
    print_reply(Reply({"ok": True}, ["not shown"]), stream, as_json=True)
    assert stream.getvalue() == '{"ok": true}\n'
