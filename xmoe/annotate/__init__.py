"""A recording of any length -> events in time, in bounded memory.

    windows.py       blocks of samples -> windows that start at exact sample positions
    answers.py       windows -> probabilities, several groups of windows at a time
    moments.py       neighbouring windows -> the same, a costly expert woken once a moment
    events.py        probabilities in time -> events: thresholds, gaps, shortest length
    thresholds.py    validation clips -> the probability from which a class is an event
    window_table.py  answers -> a Parquet table of every window
    overview.py      windows -> a spectrogram of the whole recording, of bounded size
    picture.py       overview and events -> the picture of the whole recording
    export.py        events -> csv, JSONL, Parquet, Raven, Audacity
    recording.py     all of it in order

A window is what the classifier was trained on: a segment. Each window owns a *cell* of the time
line, the hop around its middle, so that cells never overlap and together cover the recording.
"""
