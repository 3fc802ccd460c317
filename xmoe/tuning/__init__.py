"""A data set -> settings that were tried on it: accuracy against compute, and which to train with.

``space`` says what may be tried, ``trial`` tries one candidate without Ray, ``pareto`` says which
trials nothing beats and which one to take, ``halving`` which to stop early, ``draw`` shows them and
``search`` keeps them in a folder. ``xmoe.jobs.tune`` runs the trials on a cluster.
"""
