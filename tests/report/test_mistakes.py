"""The most certain mistakes, seen and heard where an illustrator is given, listed where none is."""

from xmoe.report.mistakes import Illustration, describe_mistakes, find_mistakes


def trace(clip_id, labels, answer, probability):
    return {"clip_id": clip_id, "labels": labels, "answer": answer, "probability": probability}


def test_the_most_certain_mistake_is_first():
    rows = [trace("a", ["x"], "x", 0.99), trace("b", ["x"], "y", 0.6), trace("c", ["x"], "y", 0.9)]
    assert [row["clip_id"] for row in find_mistakes(rows)] == ["c", "b"]
    assert len(find_mistakes(rows * 9)) == 10


def test_one_of_several_labels_is_no_mistake():
    assert find_mistakes([trace("a", ["x", "y"], "y", 0.9)]) == []
    assert len(find_mistakes([trace("a", [], "y", 0.9)])) == 1


def test_without_recordings_the_reason_is_given(records):
    made = describe_mistakes(records, None, "gone & lost")
    assert "gone &amp; lost" in made
    assert "<audio" not in made
    assert "<table" in made


def test_each_mistake_is_a_card_with_picture_and_player(records):
    made = describe_mistakes(records, lambda _: Illustration(b"png", "a <map>", b"wav", "slow"), "")
    assert made.count("<article>") == made.count("<audio") == len(find_mistakes(records.traces))
    assert 'alt="a &lt;map&gt;"' in made
    assert "<script" not in made


def test_a_recording_that_cannot_be_shown_costs_its_picture_only(records):
    def fail(clip_id):
        raise OSError(f"no {clip_id}")

    made = describe_mistakes(records, fail, "")
    assert "Not shown: no " in made
    assert "<article>" in made


def test_no_mistake_is_said(records):
    records.__dict__["traces"] = []
    assert "No test recording" in describe_mistakes(records, None, "")
