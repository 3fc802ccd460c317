"""Answers of an exported run, for small machines: numpy and ONNX Runtime, nothing of ``xmoe``.

    from xmoe_lite.model import Model

    Model("exported").predict(samples, sample_rate_hz)

``python -m xmoe_lite DIR FILE...`` answers for files. What the folder holds, ``xmoe export`` wrote.
S samples, F frequency bins, T frames, C classes, K the most experts that are asked.
"""

import os

# Threads of numpy's products wait for each other longer than products as small as these take.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
