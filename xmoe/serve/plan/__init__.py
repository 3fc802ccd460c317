"""How much hardware: before anything is served.

size       what each process holds in memory
simulate   service times and replicas -> latency and load
capacity   a rate and a latency -> replicas, nodes, cost
"""
