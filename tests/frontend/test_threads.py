"""One thread inside the block, as many as before after it."""

import os
import signal
import time

import pytest
import torch

from xmoe.frontend.threads import one_thread, survive_fork


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_block_has_one_thread(three_threads):
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


def test_error_gives_the_threads_back(three_threads):
    with pytest.raises(ValueError, match="inside"), one_thread():
        raise ValueError("inside")
    assert torch.get_num_threads() == 3


def test_a_process_that_was_forked_does_not_wait_for_threads_of_its_parent(three_threads):
    survive_fork()
    work = torch.ones(300, 300)
    _ = (work @ work).relu().sum()
    child = os.fork()
    if child == 0:
        _ = (work @ work).relu().sum()
        os._exit(torch.get_num_threads())
    deadline = time.monotonic() + 20
    while not (found := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < deadline:
        time.sleep(0.01)
    if not found[0]:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(found[1]) == 1
    assert found[0] == child
