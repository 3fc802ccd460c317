"""Order, crops, padding and pooling of batches: known answers, and the same bytes for a seed."""

from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xmoe.features.store import SpectrogramStore
from xmoe.training import batches
from xmoe.training.batches import (
    Share,
    epoch_generator,
    make_batch,
    shift_in_time,
    steps_per_epoch,
    train_batches,
)

# Shows power as it is.
BARE = SimpleNamespace(
    bin_centers_hz=torch.linspace(100, 3900, 16), compress=lambda power, valid: power
)


def ramp_store(*lengths):
    """Return a store whose frame t holds the power 1 + t in every bin."""
    values = np.concatenate([np.log10(1.0 + np.arange(n)) for n in lengths])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rows = np.repeat(values[:, None], 16, 1).astype(np.float16)
    names = tuple(f"{i}.wav" for i in range(len(lengths)))
    firsts = np.arange(len(offsets))
    return SpectrogramStore(rows, offsets, firsts, np.arange(len(lengths)) % 3, names)


@pytest.fixture
def picks(monkeypatch, stores, frontend):
    """The function that returns which clips each batch of an epoch picks."""
    monkeypatch.setattr(batches, "make_batch", lambda s, f, c, picked, g: (picked, None))

    def collect(config, **options):
        steps = train_batches(stores["train"], frontend, config, **options)
        return [picked for picked, _, _ in steps]

    return collect


def same_bytes(one, other):
    return all(
        torch.equal(a, b)
        for left, right in zip(one, other, strict=True)
        for a, b in zip(left[:2], right[:2], strict=True)
    )


def test_same_seed_and_epoch_give_the_same_bytes(stores, frontend, config):
    epochs = [list(train_batches(stores["train"], frontend, config, epoch=e)) for e in (2, 2, 3)]
    assert same_bytes(epochs[0], epochs[1])
    assert not same_bytes(epochs[0], epochs[2])


def test_other_seed_gives_other_bytes(stores, frontend, config, change):
    one = list(train_batches(stores["train"], frontend, config, epoch=0))
    other = list(train_batches(stores["train"], frontend, change("train", seed=4), epoch=0))
    assert not same_bytes(one, other)


def test_batches_have_the_shape_of_the_settings(stores, frontend, config):
    steps = list(train_batches(stores["train"], frontend, config, epoch=0))
    assert [tuple(spec.shape) for spec, _, _ in steps] == [(8, 16, 33)] * 4
    assert [tuple(targets.shape) for _, targets, _ in steps] == [(8, 3)] * 4
    assert all(bool(torch.isfinite(spec).all()) for spec, _, _ in steps)


def test_no_clip_is_picked_twice_in_an_epoch(picks, config):
    picked = list(chain.from_iterable(picks(config, epoch=0)))
    assert len(picked) == len(set(picked)) == 32


@pytest.mark.parametrize("workers", [2, 3])
def test_shares_of_workers_partition_each_global_batch(picks, config, workers):
    whole = picks(config, epoch=1)
    shares = [picks(config, epoch=1, share=Share(rank, workers)) for rank in range(workers)]
    for step, batch in enumerate(whole):
        parts = [share[step] for share in shares]
        assert sorted(chain.from_iterable(parts)) == sorted(batch)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_batch_larger_than_the_set_takes_the_whole_set(picks, change):
    (only,) = picks(change("train", batch_size=500), epoch=0)
    assert sorted(only) == list(range(36))


@pytest.mark.parametrize(("clips", "size", "steps"), [(36, 8, 4), (7, 8, 1), (8, 8, 1), (17, 8, 2)])
def test_steps_are_full_batches_and_at_least_one(clips, size, steps):
    assert steps_per_epoch(clips, size) == steps


def test_generators_differ_by_seed_epoch_and_worker():
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2**31, 5, 1)]
    draws = {float(torch.rand(1, generator=epoch_generator(*key))) for key in keys}
    assert len(draws) == 5
    again = torch.rand(1, generator=epoch_generator(0, 0, 0))
    assert float(again) in draws


def test_crops_of_a_long_clip_lie_inside_it_and_begin_anywhere(change):
    config = change("train", augment=False)
    generator = torch.Generator().manual_seed(0)
    spec, _ = make_batch(ramp_store(40), BARE, config, [0] * 200, generator)
    first = spec[:, 0, 0].round().long() - 1
    assert set(first.tolist()) == set(range(8))
    expected = (1.0 + first[:, None] + torch.arange(33)).unsqueeze(1).expand_as(spec)
    torch.testing.assert_close(spec, expected, rtol=3e-3, atol=0.0)


def test_short_clip_begins_anywhere_within_its_padding(change):
    config = change("train", augment=False)
    generator = torch.Generator().manual_seed(0)
    spec, _ = make_batch(ramp_store(29), BARE, config, [0] * 100, generator)
    begins = set()
    for row in spec[:, 0]:
        heard = torch.nonzero(row).squeeze(1)
        begins.add(int(heard[0]))
        torch.testing.assert_close(row[heard], 1.0 + torch.arange(29), rtol=3e-3, atol=0.0)
    assert begins == {0, 1, 2, 3, 4}


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_shift_never_wraps_a_clip_round(lengths, seed):
    spec = torch.zeros(len(lengths), 2, 20)
    for row, length in enumerate(lengths):
        spec[row, :, :length] = torch.arange(1.0, length + 1)
    moved = shift_in_time(spec, torch.tensor(lengths), torch.Generator().manual_seed(seed))
    for row, length in enumerate(lengths):
        (heard,) = torch.nonzero(moved[row, 0], as_tuple=True)
        assert torch.equal(heard, torch.arange(int(heard[0]), int(heard[0]) + length))
        assert torch.equal(moved[row, 1, heard], torch.arange(1.0, length + 1))


def test_mixup_keeps_targets_a_distribution_and_mixes_some(stores, frontend, change):
    config = change("train", mixup=1.0, label_smoothing=0.0)
    steps = list(train_batches(stores["train"], frontend, config, epoch=0))
    targets = torch.cat([targets for _, targets, _ in steps])
    torch.testing.assert_close(targets.sum(1), torch.ones(32))
    assert int(((targets > 0.01).sum(1) == 2).sum()) >= 8
