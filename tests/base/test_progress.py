"""A long job reports every step; a log sees few lines, a terminal sees one bar per stage."""

import io
import threading
import time

from rich.console import Console

from xmoe.base.progress import BarProgress, PlainProgress, _bars, polling, show_progress, silent


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_plain_prints_first_last_and_one_line_per_pace():
    seconds = iter(range(100))
    stream = io.StringIO()
    progress = PlainProgress(stream, pace_s=10.0, clock=lambda: float(next(seconds)))
    for done in range(31):
        progress("reading", done, 30)
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["0/30", "10/30", "20/30", "30/30"]
    assert lines[-1] == "reading 30/30 (30.0 s)"


def test_plain_starts_afresh_with_a_new_stage():
    stream = io.StringIO()
    progress = PlainProgress(stream, pace_s=1e9, clock=lambda: 0.0)
    progress("reading", 0, 9)
    progress("reading", 1, 9)
    progress("training", 0, 4, "loss 2.30")
    assert stream.getvalue().splitlines() == [
        "reading 0/9 (0.0 s)",
        "training 0/4 loss 2.30 (0.0 s)",
    ]


def test_plain_without_a_known_total():
    stream = io.StringIO()
    PlainProgress(stream, clock=lambda: 0.0)("scanning", 7)
    assert stream.getvalue() == "scanning 7 (0.0 s)\n"


def test_show_is_plain_in_a_log_and_silent_when_quiet():
    stream = io.StringIO()
    with show_progress(stream) as progress:
        assert isinstance(progress, PlainProgress)
    with show_progress(stream, quiet=True) as progress:
        progress("reading", 1, 1)
    assert progress is silent
    assert stream.getvalue() == ""


def test_terminal_gets_a_bar_with_counts_and_note():
    stream = Terminal()
    with show_progress(stream) as progress:
        assert isinstance(progress, BarProgress)
        progress("training", 3, 20, "loss 1.25")
        progress("training", 20, 20, "loss 0.40")
    shown = stream.getvalue()
    assert "training" in shown
    assert "20/20" in shown
    assert "loss 0.40" in shown


def test_one_bar_per_stage():
    bars = _bars(Console(file=io.StringIO()))
    progress = BarProgress(bars)
    for stage in ("reading", "training", "reading"):
        progress(stage, 1, 2)
    assert [task.description for task in bars.tasks] == ["reading", "training"]


def test_polling_looks_until_the_end_and_no_longer():
    looks = []
    with polling(lambda: looks.append(threading.get_ident()), every_s=0.01):
        until = time.monotonic() + 20
        while len(looks) < 2 and time.monotonic() < until:
            time.sleep(0.01)
    assert len(looks) >= 2
    assert set(looks) != {threading.get_ident()}
    count = len(looks)
    time.sleep(0.05)
    assert len(looks) == count
