"""Recordings -> a run folder with a classifier that was chosen for them, stage by stage.

request       one call of ``fit`` as a value
decide        check, profile and policy -> the settings of a run and its readable recordings
fit           the stages in order: decide, spectrograms, train, calibrate, evaluate, report
evaluation    a predictor and a split -> figures, usage and traces
outcome       fitted weights -> calibration, figures, usage, traces and pictures in the run folder
architecture  a fitted classifier in words: shapes, weights, multiply-accumulates
reporting     a run folder and its recordings -> ``report.html``
"""
