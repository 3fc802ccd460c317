"""Spectrogram -> the always-on first look: a stem's answer, saliency, evidence, and the router.

``stem`` -> ``saliency`` -> ``evidence`` -> ``router``; ``spans`` says where experts look. No expert
runs here. Shapes: see the legend in ``xmoe.mixture``.
"""
