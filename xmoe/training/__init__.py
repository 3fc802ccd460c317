"""Recordings -> fitted weights: features, heads and promises in closed form; the loop of gradients.

Plain PyTorch and numpy; ``xmoe.jobs.train`` runs the same loop on Ray Train workers.
"""
