"""Answers and evidence -> whose answers count how much, and whether one more is worth its cost.

What inference needs of it: records and pure functions of numpy arrays. ``xmoe.training`` fits them.
Shapes: see the legend in ``xmoe.mixture``; n clips, G numbers of evidence.
"""
