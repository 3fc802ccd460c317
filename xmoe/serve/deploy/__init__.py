"""Versions of a run: tried, promoted, taken back. Knows no Ray; ``start.stage`` does.

registry    which runs were deployed, which one is served, which is on trial
release     the steps of a deployment, each written to the registry
preflight   what a run answers before it is served, and what speaks against it
trial       a shadow or canary beside the run that is served
"""
