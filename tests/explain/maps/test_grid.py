"""Maps keep their places when they are grown, and experts' maps go back where they came from."""

import torch

from xmoe.explain.maps.grid import grow_cells, place_expert_cells


def test_growing_keeps_the_centre_of_every_cell():
    cells = torch.rand(2, 4, 6)
    grown = grow_cells(cells, (16, 23))
    assert grown.shape == (2, 16, 23)
    torch.testing.assert_close(grown[:, ::4, ::4], cells)


def test_growing_is_linear_between_centres_and_flat_beyond_the_last():
    grown = grow_cells(torch.tensor([[[0.0, 4.0]]]), (1, 8))
    assert grown[0, 0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 4.0, 4.0, 4.0]


def test_the_stem_centres_its_cells_where_growing_puts_them(model):
    spec = torch.zeros(1, 32, 64, requires_grad=True)
    mapped = model.stem.conv2[0](model.stem.conv1[0](spec.unsqueeze(1)))
    (gradient,) = torch.autograd.grad(mapped[0, :, 4, 8].sum(), spec)  # the model is shared
    seen = gradient[0].abs() > 0
    rows, columns = seen.any(1).nonzero().squeeze(1), seen.any(0).nonzero().squeeze(1)
    assert (int(rows.min()) + int(rows.max())) / 2 == 16
    assert (int(columns.min()) + int(columns.max())) / 2 == 32


def test_an_experts_map_fills_its_band_and_its_windows_only(model, specs, subject):
    plan = model.plan(specs[:1], subject.routing, k=3)
    cells, rows = torch.ones(1, 2, 3), torch.tensor([0])
    placed = place_expert_cells(cells, plan, "low", rows, shape=(8, 11), width=2)
    sent = (2 * plan.windows[0, 1].unsqueeze(1) + torch.arange(2)).flatten()
    sent = sent[sent < placed.shape[2]]
    expected = torch.zeros_like(placed)
    expected[0, :4, sent] = 1.0
    torch.testing.assert_close(placed, expected)
    assert 0 < len(sent) < placed.shape[2]
