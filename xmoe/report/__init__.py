"""The records of a run folder -> ``report.html``: one file that asks no other host for anything.

    html.py       escaped text, tables, figures, sections, and the document of page/
    records.py    what the run folder holds, each record read on first use
    curves.py     the two pictures that only the report has: accuracy by K, and K by SNR
    data.py       what the data is
    choices.py    what was chosen and why
    outcome.py    how the training went and what test recordings say
    routing.py    how many experts were asked, which, and what it cost
    mistakes.py   the most certain mistakes, with picture and sound by an illustrator from above
    report.py     all of it in order; a part that cannot be drawn says so

Data is escaped where it enters the page. The same records give the same bytes.
"""
