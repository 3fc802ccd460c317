"""What a replica's process is set up with."""

import gc

from xmoe.serve.experts.process import settle_memory


def test_what_a_replica_holds_for_life_is_out_of_the_collectors_sight():
    before = gc.get_freeze_count()
    kept = [{"a": [index]} for index in range(1000)]
    settle_memory()
    try:
        assert gc.get_freeze_count() >= before + len(kept)
    finally:
        gc.unfreeze()
