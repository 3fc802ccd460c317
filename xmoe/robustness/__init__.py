"""A classifier + labelled recordings -> how many answers stay right as recordings get worse.

    harms.py     what can be done to a recording, from mild to harsh
    measure.py   every clip through every harm -> robustness.json

The picture is ``xmoe.pictures.robustness``. Source of the idea, of levels side by side and of the
loss against the clean score: Hendrycks and Dietterich 2019, arXiv:1903.12261 (for images).
"""
