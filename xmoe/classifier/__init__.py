"""Recordings -> a run folder, and a run folder -> answers: the front door of the library.

fit.py           the stages in order: check, profile, decide, spectrograms, train, finish
outcome.py       fitted weights -> figures, usage, traces and pictures in the run folder
architecture.py  a fitted classifier in words: shapes, weights, multiply-accumulates
estimator.py     ``MoEAudioClassifier``, which holds them together
"""

from xmoe.classifier.estimator import MoEAudioClassifier

__all__ = ["MoEAudioClassifier"]
