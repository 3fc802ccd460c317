"""Recordings -> fitted weights: the spectrogram store, the loop, the checkpoints, calibration.

Plain PyTorch and numpy; ``xmoe.jobs.train`` runs the same loop on Ray Train workers.
"""
