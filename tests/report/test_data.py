"""What the data is: counts, warnings, notes, and what was left out."""

from xmoe.report.data import describe_data, describe_quarantine, list_facts


def test_facts_warnings_notes_and_quarantine_are_there(records):
    made = describe_data(records)
    assert "<dt>Recordings</dt><dd>24</dd>" in made
    assert "something odd in &lt;script&gt;" in made
    assert "What was assumed" in made
    assert "Clips by split: train 8, val 8, test 8" in made
    assert "1 recordings could not be used (empty 1)" in made


def test_facts_name_their_units(records):
    assert "8 kHz" in list_facts(records.profile)


def test_a_long_quarantine_is_cut(records):
    row = {"file": "a.wav", "code": "empty", "reason": "empty", "what_to_do": "leave it out"}
    records.__dict__["quarantine"] = [row] * 14
    assert describe_quarantine(records).count("<td") == 20
    assert "4 more" in describe_quarantine(records)
    records.__dict__["quarantine"] = []
    assert "No recording" in describe_quarantine(records)
