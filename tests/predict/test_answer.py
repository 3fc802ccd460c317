"""Answers to segments: cut by rows and joined again they are the same."""

import torch

from xmoe.predict.answer import SegmentAnswers, join_answers


def make_answers(segments):
    generator = torch.Generator().manual_seed(0)
    return SegmentAnswers(
        logits=torch.randn(segments, 3, generator=generator),
        k=torch.arange(segments),
        weights=torch.rand(segments, 2, generator=generator),
        missing=torch.arange(2 * segments).view(segments, 2) % 3 == 0,
        saliency_share=torch.rand(segments, generator=generator),
    )


def test_rows_joined_again_are_what_was_cut():
    whole = make_answers(5)
    joined = join_answers([whole.rows(0, 2), whole.rows(2, 3), whole.rows(3, 5)])
    for name, column in vars(whole).items():
        torch.testing.assert_close(getattr(joined, name), column)
    assert whole.rows(2, 4).k.tolist() == [2, 3]


def test_a_single_part_is_not_copied():
    whole = make_answers(2)
    assert join_answers([whole]) is whole
