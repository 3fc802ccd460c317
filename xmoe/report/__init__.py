"""The records of a run folder -> ``report.html``: one file that asks no other host for anything.

    html.py       escaped text, tables, figures, sections
    page.py       sections -> a whole document with its style, for screens, phones and paper
    records.py    what the run folder holds, each record read when it is asked for
    curves.py     the two pictures that only the report has: accuracy by K, and K by SNR
    data.py       what the data is
    choices.py    what was chosen and why
    outcome.py    how the training went and what test recordings say
    routing.py    how many experts were asked, which, and what it cost
    mistakes.py   the most certain mistakes, with what an illustrator from above knows of them
    report.py     all of it in order; a part that cannot be drawn says so

Whatever comes from data is escaped where it enters the page. The same records give the same bytes.
"""
