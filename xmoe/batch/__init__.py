"""Very many recordings -> one row each, in shards that a run which was stopped need not do again.

inputs    a folder, a pattern or a table -> the names of the recordings, each once
ledger    names -> shards; which are done, and what they came to
answers   a shard's names -> its rows, decoded and answered a batch at a time
shards    a shard -> its file, its bad recordings, its entry in the ledger
run       all of it in order; one process here, an actor pool in ``xmoe.jobs.infer``
"""
