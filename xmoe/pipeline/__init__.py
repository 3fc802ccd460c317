"""Recordings -> a run folder with a classifier that was chosen for them, stage by stage.

fit           the stages in order: check, profile, decide, spectrograms, train, finish
evaluation    a predictor and a split -> figures, usage and traces
outcome       fitted weights -> figures, usage, traces and pictures in the run folder
architecture  a fitted classifier in words: shapes, weights, multiply-accumulates
reporting     a run folder and its recordings -> ``report.html``
"""
