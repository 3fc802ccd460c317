"""Experts: each sees a segment in its own way and answers by itself, one file a kind.

Shapes: see the legend in ``xmoe.mixture``.
"""
