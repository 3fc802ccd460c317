"""The mixture of experts whose router is driven by saliency.

One legend for every shape in this package:

    B batch    F frequency bins of the spectrogram    T frames of the spectrogram
    D channels of the stem map    R rows (bands) and W columns (times) of the stem map
    P time windows of the stem map    E experts    K chosen experts    C classes

``glance`` -> ``plan`` -> ``experts`` -> ``combine`` is the whole algorithm; ``moe`` holds the parts
together.
"""
