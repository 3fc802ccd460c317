"""A data set -> settings tried on it: accuracy against compute, and which to train with.

``space`` says what may be tried, ``trial`` tries one candidate without Ray, ``pareto`` finds the
trials that nothing beats and the one to take, ``halving`` stops trials early, ``draw`` plots them
and ``search`` keeps them in a folder. ``xmoe.jobs.tune`` runs the trials on a cluster.
"""
