"""What operators want to know: inputs that drift, experts that fail, replicas that are missing.

incoming    one recording -> its measures
reference   the training recordings -> bins of these measures
drift       incoming against training
watch       what happens to a recording beside its answer
about       what a run folder says of its own training
status      how many replicas each deployment has
fleet       reports of all routers -> one
ops         all of it as the answers of ``/v1/ops``
kept        what takes a round trip to find out, kept for a second
"""
