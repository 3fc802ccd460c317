"""Ctrl-C waits for a good moment, a second one does not, and the old handler comes back."""

import os
import signal
import threading

import pytest

from xmoe.jobs.interrupt import hold_interrupt


def press():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def work():
    """Return a function that does steps inside, with the interruption at hand, and their list."""
    done = []

    def call(*steps):
        with hold_interrupt() as interrupt:
            for step in steps:
                step(interrupt)
                done.append(step.__name__)
        done.append("after")

    return call, done


def ctrl_c(interrupt):
    press()


def ask(interrupt):
    interrupt.strike()


def fail(interrupt):
    raise ValueError("work")


def test_work_without_ctrl_c_is_done(work):
    call, done = work
    call(ask, ask)
    assert done == ["ask", "ask", "after"]


def test_ctrl_c_strikes_where_it_is_asked_for(work):
    call, done = work
    with pytest.raises(KeyboardInterrupt):
        call(ask, ctrl_c, ask, ask)
    assert done == ["ask", "ctrl_c"]


def test_the_second_one_strikes_at_once(work):
    call, done = work
    with pytest.raises(KeyboardInterrupt):
        call(ctrl_c, ctrl_c)
    assert done == ["ctrl_c"]


def test_one_that_nobody_asked_for_strikes_at_the_end_and_the_handler_is_back(work):
    call, done = work
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        call(ctrl_c)
    assert done == ["ctrl_c"]
    assert signal.getsignal(signal.SIGINT) is before


def test_errors_of_the_work_come_first(work):
    call, _ = work
    with pytest.raises(ValueError, match="work"):
        call(ctrl_c, fail)


def test_other_threads_are_left_alone():
    seen = []

    def elsewhere():
        with hold_interrupt() as interrupt:
            interrupt.strike()
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
