"""How many experts, which, and what they cost."""

from xmoe.report.routing import (
    describe_accuracy_by_k,
    describe_costs,
    describe_k_by_snr,
    describe_usage,
)


def test_pictures_of_routing(records):
    assert describe_accuracy_by_k(records).count("<img") == 2
    assert 'alt="K against SNR: ' in describe_k_by_snr(records)
    assert 'alt="Expert usage by class: ' in describe_usage(records)


def test_many_classes_are_cut_to_those_that_ask_most(records):
    usage = dict(records.usage)
    row = next(iter(usage["by_class"].values()))
    usage["by_class"] = {f"class {i}": row | {"mean_k": i / 50} for i in range(50)}
    records.__dict__["usage"] = usage
    assert "The 40 of 50 classes" in describe_usage(records)
    assert len(usage["by_class"]) == 50


def test_clips_without_snr_are_said(records):
    records.__dict__["clips"] = {}
    assert "No test clip" in describe_k_by_snr(records)


def test_costs_name_minutes_operations_and_weights(records):
    made = describe_costs(records)
    assert "0.5 minutes for 3 epochs" in made
    assert "costs 4.00 million" in made
    assert "<pre>xmoe &lt;script&gt;" in made
