"""A recording of any length -> events in time, in bounded memory.

    answers.py       segments -> probabilities, several groups at a time
    moments.py       neighbouring segments -> the same, an expensive expert asked once per moment
    events.py        probabilities in time -> events: thresholds, gaps, shortest length
    thresholds.py    validation clips -> the probability from which a class is an event
    window_table.py  answers -> a Parquet table of every segment
    overview.py      segments -> a spectrogram of the whole recording, of bounded size
    picture.py       overview and events -> the picture of the whole recording
    naming.py        recordings -> file names that do not collide
    export.py        events -> csv, JSONL, Parquet, Raven, Audacity
    recording.py     all of it in order

Each segment owns a *cell* of the time line, the hop around its middle: cells do not overlap and
together cover the recording.
"""
