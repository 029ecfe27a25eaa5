"""Scores of classes, and windows that slide."""

import torch
import torch.nn.functional as F

from mmclip.segmentation.scores import (
    class_scores,
    enlarge_and_choose,
    name_logits,
)
from mmclip.segmentation.sliding import falling_to_the_edges, slide


def test_logits_are_scaled_cosines():
    x, weight = torch.randn(2, 6, 3, 4), torch.randn(5, 6)
    got = name_logits(x, weight, torch.full((5,), 0.5))
    cosines = F.cosine_similarity(
        x[:, None], weight[None, :, :, None, None], dim=2
    )
    wanted = cosines * weight.norm(dim=1)[:, None, None] + 0.5
    torch.testing.assert_close(got, wanted)


def test_a_class_is_as_likely_as_its_likeliest_name():
    logits = torch.tensor([2.0, 1.0, 3.0, 0.0]).view(1, 4, 1, 1)
    likely = logits.flatten().softmax(0)
    got = class_scores(logits, torch.tensor([0, 1, 1, 2]), 4).flatten()
    wanted = torch.stack([likely[0], likely[2], likely[3], likely[0] * 0])
    torch.testing.assert_close(got, wanted)


def test_what_is_unlikely_is_background():
    logits = torch.tensor([[0.0, 0.0, 0.1], [0.0, 4.0, 0.0]]).T
    logits = logits.view(1, 3, 1, 2)
    names = torch.tensor([0, 1, 2])
    plain = class_scores(logits, names, 3)
    assert plain.argmax(1).flatten().tolist() == [2, 1]
    with_background = class_scores(logits, names, 3, 0, 0.5)
    assert with_background.argmax(1).flatten().tolist() == [0, 1]
    # A background without names is there, too.
    without_names = class_scores(logits, names + 1, 4, 0, 0.5)
    assert without_names.argmax(1).flatten().tolist() == [0, 2]


def test_windows_cover_the_image_and_are_averaged():
    image = torch.arange(7 * 10.0).view(1, 1, 7, 10).repeat(1, 3, 1, 1)
    seen = []

    def call(window):
        seen.append(tuple(window[0, 0, 0, :1].long().tolist()))
        return window[:, :2]

    out = slide(image, call, (4, 4), (2, 3))
    torch.testing.assert_close(out, image[:, :2])
    starts = {(10 * top + left,) for top in (0, 2, 3) for left in (0, 3, 6)}
    assert set(seen) == starts and len(seen) == 9


def test_overlapping_windows_are_averaged():
    image = torch.zeros(1, 3, 2, 6)
    answers = iter([1.0, 3.0])

    def call(window):
        return torch.full((1, 1, 2, 4), next(answers))

    out = slide(image, call, (2, 4), (2, 2))
    assert out[0, 0, 0].tolist() == [1, 1, 2, 2, 3, 3]


def test_windows_that_count_less_at_their_edges_are_interpolated():
    answers = torch.tensor([1.0, 3.0, 2.0])
    left = iter(answers)

    def call(window):
        return next(left).expand(1, 1, 2, 4)

    weight = falling_to_the_edges((2, 4))
    out = slide(torch.zeros(1, 3, 2, 8), call, (2, 4), (2, 2), weight)
    wanted = F.interpolate(answers[None, None], scale_factor=2, mode='linear')
    torch.testing.assert_close(out[0, :, 0, 1:-1], wanted[0])


def test_a_small_image_is_one_window():
    def call(window):
        assert window.shape == (1, 3, 8, 8)
        return window

    image = torch.randn(1, 3, 5, 6)
    torch.testing.assert_close(slide(image, call, (8, 8), (4, 4)), image)


def test_the_best_class_of_each_pixel():
    scores = torch.rand(1, 5, 6, 4)
    wanted = F.interpolate(scores, (13, 9), mode='bilinear').argmax(1)[0]
    assert torch.equal(enlarge_and_choose(scores, (13, 9)), wanted)
