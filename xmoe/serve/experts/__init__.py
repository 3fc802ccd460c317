"""One expert: in a replica of its own, or in the router's process.

expert           the weights of one expert and what it answers; knows no Ray
expert_replica   the same as Ray Serve runs it
local            all experts in this process
breaker          an expert that keeps failing is left alone for a while
process, turn    how the process of a replica is set up, and who may start at the same time
"""
