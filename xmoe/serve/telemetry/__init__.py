"""What serving measures, and where it goes.

tally     how often something was asked, how long it took, what became of it
meter     the events of a router; counts without Ray
metrics   the same events as Ray metrics, for Prometheus
traces    spans for OpenTelemetry
logs      log lines as JSON
"""
