"""Many recordings -> one row each, in shards, so that an interrupted run resumes where it stopped.

inputs    a folder, a pattern or a table -> the names of the recordings, each once
ledger    names -> shards; which are done, and with what result
answers   a shard's names -> its rows, decoded and answered a batch at a time
shards    a shard -> its file, its bad recordings, its entry in the ledger
run       all of it in order; one process here, an actor pool in ``xmoe.jobs.infer``
choose    doubts and features -> the recordings most worth a label
suggest   recordings without labels -> a table of those to label next
"""
