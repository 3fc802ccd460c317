"""A run folder -> an HTTP endpoint: a router deployment and one deployment per expert.

settings   what can be set, checked where it enters
source     a run folder from a path or an s3:// or gs:// address
expert     one expert with its own weights file: uint8 windows -> logits
calls      what a call to an expert may come to, and who makes it
breaker    an expert that keeps failing is left alone, and found again when it is back
tally      how the calls to one expert go
replan     experts that are lost -> a plan without them; limits of one request
batching   requests that wait -> one block of work, without a timer
fanout     a block of segments -> one stacked call per expert, until each request's deadline
router     recordings -> answers: front end, plan, fan-out, combine
schemas, problems, bodies, tensors, auth, api, v1, v2, pages    HTTP
drain      the last requests of a router
expert_replica, router_replica, process                    what Ray Serve runs
build, session, status, metrics                            Ray Serve; only ``build`` binds
client     the other end of the wire
"""
