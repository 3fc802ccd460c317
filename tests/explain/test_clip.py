"""One call writes five pictures and their numbers, or nothing."""

import json

import pytest

from xmoe.base.errors import StorageError
from xmoe.explain.clip import explain_clip
from xmoe.explain.maps.methods import METHODS
from xmoe.explain.reasons import find_reasons


def test_five_pictures_of_the_plan_that_was_carried_out_and_their_numbers(subject, specs, tmp_path):
    plan = subject.model.plan(specs[1:2], subject.routing, k=1)
    record = explain_clip(
        find_reasons(subject, specs[1], plan=plan, span_s=(3.0, 3.4)), tmp_path / "why"
    )
    assert record["k"] == 1
    assert record["segment_s"][0] == 3.0
    names = [
        *("gradcam.png", "saliency_router.png", "patch_routing.png"),
        *("why_experts.png", "why_k.png"),
    ]
    assert sorted(path.name for path in (tmp_path / "why").iterdir()) == sorted(
        [*names, "explanation.json"]
    )
    for name in names:
        assert (tmp_path / "why" / name).read_bytes()[:4] == b"\x89PNG"
    assert record["files"] == names
    assert json.loads((tmp_path / "why" / "explanation.json").read_text()) == record


def test_another_method_adds_its_own_picture(subject, specs, undrawn, tmp_path):
    record = explain_clip(find_reasons(subject, specs[0], method="gradient_x_input"), tmp_path)
    assert record["files"][-1] == "gradient_x_input.png"
    assert (tmp_path / "gradient_x_input.png").is_file()
    assert record["method"] == "gradient_x_input"


def test_a_folder_that_cannot_be_written_is_a_storage_error(subject, specs, undrawn, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        explain_clip(find_reasons(subject, specs[0]), tmp_path / "file")


def test_methods_are_listed():
    assert tuple(METHODS) == ("gradcam", "saliency", "gradient_x_input", "occlusion")
