"""Profiling on Ray gives the same bytes as the plain loop; the engine is chosen by size."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf

from tests.fixtures.stores import upload
from xmoe.audio.dataset import Dataset, Example
from xmoe.base.errors import DatasetError
from xmoe.base.files import to_json
from xmoe.jobs import profile as jobs
from xmoe.jobs import session
from xmoe.profile.assemble import profile_dataset
from xmoe.profile.table import examples_to_table, measure_block
from xmoe.storage.mirror import local_path

# Ray warns of its own settings.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Thirty clips of two classes and two rates, one of them silent, and two bad files."""
    root = tmp_path_factory.mktemp("set")
    examples = []
    for index in range(30):
        rate = 8000 if index % 3 else 16_000
        samples = 0.1 * np.random.default_rng(index).standard_normal(rate // 2 + 37 * index)
        sf.write(root / f"{index:02d}.wav", samples * (index != 7), rate, subtype="PCM_16")
        split = ("train", "train", "val", "test")[index % 4]
        group = f"g{index // 4}" if index % 2 else None
        labels = ("x" if index % 2 else "y",)
        examples.append(Example(f"{index:02d}.wav", split, labels, group=group, row=index))
    (root / "bad.wav").write_bytes(b"nonsense" * 20)
    examples.insert(5, Example("bad.wav", "train", ("x",), row=30))
    examples.insert(20, Example("gone.wav", "train", ("y",), row=31))
    return Dataset(root, tuple(examples), ("x", "y"), "single_label")


def test_deal_spreads_every_clip_once(folder):
    shards = jobs._deal(folder.examples, 5)
    assert sorted(len(shard) for shard in shards) == [6, 6, 6, 7, 7]
    assert {example for shard in shards for example in shard} == set(folder.examples)
    assert len(jobs._deal(folder.examples[:2], 5)) == 2


def test_small_set_is_for_the_loop(folder):
    assert jobs.choose_engine(folder) == "loop"


def test_many_clips_are_for_ray(folder, monkeypatch):
    monkeypatch.setattr(jobs, "LOOP_MAX_CLIPS", 31)
    assert jobs.choose_engine(folder) == "ray"


def test_many_bytes_are_for_ray_and_parts_of_one_file_count_once(folder, monkeypatch):
    size = (folder.root / "00.wav").stat().st_size
    parts = tuple(Example("00.wav", "train", ("x",), end_s=0.1 * i) for i in range(1, 5))
    one_file = replace(folder, examples=parts)
    monkeypatch.setattr(jobs, "LOOP_MAX_BYTES", size)
    assert jobs.choose_engine(one_file) == "loop"
    monkeypatch.setattr(jobs, "LOOP_MAX_BYTES", size - 1)
    assert jobs.choose_engine(one_file) == "ray"


def test_bytes_of_other_places_count(folder, bucket, monkeypatch):
    fetched = local_path(f"{bucket}/x.wav")
    fetched.parent.mkdir(parents=True)
    fetched.write_bytes(b"12345")
    far = replace(folder, examples=(Example(f"{bucket}/x.wav", "train", ("x",)),))
    monkeypatch.setattr(jobs, "LOOP_MAX_BYTES", 5)
    assert jobs.choose_engine(far) == "loop"
    monkeypatch.setattr(jobs, "LOOP_MAX_BYTES", 4)
    assert jobs.choose_engine(far) == "ray"


@pytest.mark.parametrize(
    ("engine", "expected"), [("auto", "loop"), ("loop", "loop"), ("ray", "ray")]
)
def test_engine_can_be_forced(folder, monkeypatch, engine, expected):
    used = []
    monkeypatch.setattr(jobs, "profile_dataset", lambda *a, **k: used.append("loop"))
    monkeypatch.setattr(jobs, "profile_with_ray", lambda *a, **k: used.append("ray"))
    jobs.run_profile(folder, engine=engine)
    assert used == [expected]


@pytest.mark.parametrize("num_blocks", [None, 1, 7])
def test_ray_gives_the_bytes_of_the_loop(folder, local_ray, num_blocks):
    calls = []
    expected = profile_dataset(folder)
    result = jobs.profile_with_ray(
        folder, num_blocks=num_blocks, progress=lambda *call: calls.append(call)
    )
    assert to_json(result.profile) == to_json(expected.profile)
    assert result.stats == expected.stats
    assert [row.filepath for row in result.quarantined] == ["bad.wav", "gone.wav"]
    assert result.quarantined == expected.quarantined
    assert calls[-1] == ("profile", 32, 32)


def test_set_of_bad_files_is_an_error_on_ray_too(folder, local_ray):
    bad = tuple(
        example for example in folder.examples if example.filepath in ("bad.wav", "gone.wav")
    )
    with pytest.raises(DatasetError, match="2 tried"):
        jobs.profile_with_ray(replace(folder, examples=bad))


def test_running_ray_and_its_settings_are_left_as_they_were(folder, local_ray):
    import ray
    import ray.data

    context = ray.data.DataContext.get_current()
    before = context.enable_progress_bars
    jobs.profile_with_ray(replace(folder, examples=folder.examples[:2]))
    assert ray.is_initialized()
    assert context.enable_progress_bars == before


def test_a_node_without_the_files_fetches_those_of_its_shard(
    folder, bucket, tmp_path, monkeypatch, local_ray
):
    source = upload(folder.root, f"{bucket}/set")
    monkeypatch.setenv("XMOE_CACHE", str(tmp_path / "another node"))
    far = replace(folder, root=tmp_path / "not here", examples=(), source=source)
    shard = examples_to_table(folder.examples[3:7])
    found = jobs._measure(shard, dataset=far, home="another")
    assert found == measure_block(shard, root=str(folder.root))
    fetched = sorted(path.name for path in (tmp_path / "another node").rglob("*.wav"))
    assert fetched == sorted(example.filepath for example in folder.examples[3:7])
    home = session.node_here()
    lost = jobs._measure(shard, dataset=far, home=home)
    assert lost["error_code"].to_pylist() == ["missing"] * 4
