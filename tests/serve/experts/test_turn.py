"""Turns of replicas that start: so many at once, and nobody waits for ever."""

import subprocess
import sys
import threading
import time

from xmoe.serve.experts.turn import count_slots, turn


def test_so_many_hold_a_slot_at_once(tmp_path):
    inside, most, lock = 0, 0, threading.Lock()

    def start():
        nonlocal inside, most
        with turn(slots=2, folder=tmp_path) as taken:
            assert taken
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.05)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2


def test_nobody_waits_for_ever(tmp_path):
    with (
        turn(slots=1, folder=tmp_path) as first,
        turn(slots=1, folder=tmp_path, within_s=0.1) as second,
    ):
        assert (first, second) == (True, False)
    with turn(slots=1, folder=tmp_path, within_s=0.1) as third:
        assert third


def test_processes_see_each_others_turns(tmp_path):
    code = (
        "import sys, pathlib; from xmoe.serve.experts.turn import turn\n"
        "with turn(slots=1, folder=pathlib.Path(sys.argv[1]), within_s=0.1) as taken: print(taken)"
    )
    with turn(slots=1, folder=tmp_path):
        said = subprocess.check_output([sys.executable, "-c", code, str(tmp_path)], text=True)
    assert said.strip() == "False"


def test_half_of_the_processors_start():
    assert count_slots() >= 1


def test_it_imports_nothing_heavy():
    code = "import sys, xmoe.serve.experts.expert_replica; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
