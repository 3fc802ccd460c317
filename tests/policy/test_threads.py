"""The number of torch threads inside and after."""

import pytest
import torch

from xmoe.policy.threads import one_torch_thread


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_one_thread_inside_and_as_before_outside():
    with one_torch_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_threads_come_back_after_an_error():
    with pytest.raises(RuntimeError, match="inside"), one_torch_thread():
        raise RuntimeError("inside")
    assert torch.get_num_threads() == 2
