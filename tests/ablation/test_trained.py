"""A set is decided once, a seed is trained once, and a stopped one goes on."""

from xmoe.ablation.trained import is_trained, prepare_set, train_seed
from xmoe.base.config import TrainConfig
from xmoe.pipeline.request import FitRequest
from xmoe.run.folder import RunFolder


def test_a_set_is_decided_once_and_a_seed_is_trained_once(tones, tmp_path):
    train = TrainConfig(epochs=2, device="cpu")
    request = FitRequest(dataset_dir=tones, out_dir=tmp_path, train=train, policy="rule")
    prepared = prepare_set(request)
    assert {split: len(store) for split, store in prepared.stores.items()} == {
        "train": 36,
        "val": 12,
        "test": 12,
    }
    decided = prepared.folder.file("policy.json").stat().st_mtime_ns
    again = prepare_set(request)
    assert again.config == prepared.config
    assert prepared.folder.file("policy.json").stat().st_mtime_ns == decided

    folder = train_seed(prepared, tmp_path, 5)
    assert folder.read_config().train.seed == 5
    assert is_trained(folder)
    written = folder.checkpoint_folder("last").stat().st_mtime_ns
    train_seed(prepared, tmp_path, 5)
    assert folder.checkpoint_folder("last").stat().st_mtime_ns == written


def test_nothing_is_not_trained(tmp_path):
    assert not is_trained(RunFolder(tmp_path))
