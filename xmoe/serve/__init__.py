"""A run folder -> an HTTP endpoint: a router deployment and one deployment per expert.

settings     what can be set
schemas      requests and answers as they travel
pages        the web pages, and ``page/`` with their files
client       a client for scripts
start/       all of it on Ray Serve
http/        routes, bodies, streams
plan/        replicas and memory, before anything is served
watch/       drift, replicas, what operators ask
deploy/      versions of a run: tried, promoted, taken back
guard/       tokens, time limits, refusals
router/      recordings -> answers: glance, plan, calls, combine
experts/     one expert, in a replica or in this process
telemetry/   metrics, traces, logs

Imports go down this list, from ``start/`` to ``telemetry/``; everyone reads ``settings``.
"""
