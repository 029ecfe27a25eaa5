import pytest
import torch

from mmclip.adapting.tuning.plan import make_plan, shape_of, stages_to_freeze


def test_the_rate_is_ft_clips_for_its_width_and_batch():
    assert make_plan(10_000, width=768).lr == pytest.approx(7.7e-5)


def test_the_rate_falls_with_the_width_and_the_batch():
    assert make_plan(10_000, width=1536).lr == pytest.approx(3.9e-5)
    assert make_plan(8, width=768).lr == pytest.approx(3.9e-5)


@pytest.mark.parametrize(
    ('images', 'steps', 'batch'), [(30, 100, 30), (3200, 1000, 32)]
)
def test_each_image_is_seen_ten_times_or_more(images, steps, batch):
    plan = make_plan(images, width=768)
    assert (plan.steps, plan.batch_size) == (steps, batch)


def test_a_shortened_plan_shortens_its_schedule():
    plan = make_plan(3200, width=768).shortened(400)
    assert (plan.warm_up, plan.validate_every) == (40, 40)


def test_a_cpu_may_train_the_upper_half():
    assert stages_to_freeze(12, gpu=False) == [-1, 6]
    assert stages_to_freeze(12, gpu=True) == [-1]


def test_the_shape_is_read_from_the_tensors():
    tower = {f'layers.{i}.ln1.weight': torch.ones(8) for i in range(11)}
    assert shape_of(tower | dict(pos_embed=torch.ones(1, 5, 8))) == (8, 11)
