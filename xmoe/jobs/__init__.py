"""The same work on Ray: profiling, training and tuning over many processes or machines.

Everything here is a shell around plain functions of the packages below; nothing below imports Ray.
"""
