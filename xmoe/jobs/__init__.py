"""The same work on Ray: profiling, training, evaluating and answering on many machines.

Everything here is a shell around plain functions of the packages below; nothing below imports Ray.
"""
