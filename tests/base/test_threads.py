"""Work ahead by threads, in order."""

import itertools
import threading
import time
from contextlib import closing

import pytest

from xmoe.base.threads import map_ahead


def test_results_come_in_order_however_long_each_takes():
    def work(number):
        time.sleep(0.02 if number % 3 == 0 else 0.0)
        return -number

    found = map_ahead(work, range(20), threads=4, name="test")
    assert list(found) == [-number for number in range(20)]
    assert list(map_ahead(work, [], threads=4, name="test")) == []


def test_things_are_taken_only_a_few_ahead():
    taken = []

    def source():
        for number in itertools.count():
            taken.append(number)
            yield number

    with closing(map_ahead(lambda number: number, source(), threads=2, name="test")) as found:
        assert [next(found), len(taken)] == [0, 3]
        assert [next(found), len(taken)] == [1, 4]
    with closing(map_ahead(str, source(), threads=2, ahead=5, name="test")) as found:
        taken.clear()
        assert [next(found), len(taken)] == ["0", 5]


def test_threads_have_its_name_and_as_many_work_at_once():
    together = threading.Barrier(3)

    def work(_):
        together.wait(10)
        return threading.current_thread().name.rpartition("_")[0]

    assert list(map_ahead(work, range(3), threads=3, name="fetch")) == ["fetch"] * 3


def test_after_an_error_nothing_more_is_begun():
    begun = []

    def work(number):
        begun.append(number)
        if number == 0:
            raise ValueError("first")
        time.sleep(0.01)

    with pytest.raises(ValueError, match="first"):
        list(map_ahead(work, range(500), threads=16, name="test"))
    assert len(begun) < 100


def test_a_caller_that_stops_early_leaves_no_thread():
    before = threading.active_count()
    found = map_ahead(lambda number: number, itertools.count(), threads=3, name="test")
    assert next(found) == 0
    assert threading.active_count() > before
    found.close()
    assert threading.active_count() == before
