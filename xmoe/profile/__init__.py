"""Recordings -> what they are like: one row per clip, one profile per data set.

    spectrum.py     samples [S] -> power over frames and bins, and the measures read off it
    clip_stats.py   one clip -> ClipStats (level, band, SNR, transients, clipping, silence, codec)
    quality.py      ClipStats -> quality and transient score in [0, 1]
    leakage.py      rows of ClipStats -> how well the label follows from the file format alone
    table.py        rows of ClipStats <-> Arrow table and Parquet
    profile.py      Profile, and its files
    advice.py       Profile -> warnings in plain words
    assemble.py     rows of ClipStats in any order -> Profile, the same bytes every time
    show.py         Profile -> text on a console
    draw.py         Profile -> picture

No Ray here: ``xmoe.jobs.profile`` runs the same functions on a cluster.
"""
