"""A compiled backbone trains as one that is not, and nobody can tell."""

import shutil

import pytest
import torch
from mmengine.model import BaseModel

from mmclip.checkpoint import read_checkpoint
from mmclip.engine import CompileHook
from mmclip.models import CLIPVisionTransformer

EPOCHS = 2


class TinyClassifier(BaseModel):
    """Images of one colour, the number that the data set gives."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = CLIPVisionTransformer(
            arch=dict(width=16, depth=2, num_heads=2, mlp_width=32),
            act='gelu',
            img_size=16,
            patch_size=8,
        )
        self.head = torch.nn.Linear(16, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        colours = torch.stack(inputs).view(-1, 1, 1, 1) / 8
        pixels = torch.linspace(0, 1, 16).expand(3, 16, 16)
        outputs = self.head(self.backbone(colours * pixels)[-1])
        return dict(loss=outputs.square().mean())


def train_both(train, tmp_path, **compile_hook):
    """The last checkpoints of a plain and of a compiled run."""
    checkpoints = []
    for name, hooks in (
        ('plain', {}),
        ('compiled', dict(compile=CompileHook(**compile_hook))),
    ):
        torch._dynamo.reset()
        train(EPOCHS, TinyClassifier(), work_dir=name, **hooks)
        checkpoints.append(
            read_checkpoint(tmp_path / name / f'epoch_{EPOCHS}.pth')
        )
    return checkpoints


def graphs() -> int:
    """How many torch has compiled since the last reset."""
    return torch._dynamo.utils.counters['stats']['unique_graphs']


def test_checkpoints_are_those_of_a_plain_run(train, tmp_path):
    plain, compiled = train_both(train, tmp_path, backend='eager')
    assert graphs()
    assert list(compiled['state_dict']) == list(plain['state_dict'])
    torch.testing.assert_close(compiled['state_dict'], plain['state_dict'])
    torch.testing.assert_close(compiled['optimizer'], plain['optimizer'])


def test_the_plain_run_compiles_nothing(train):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    train(1, TinyClassifier())
    assert not graphs()


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which('g++') is None, reason='inductor needs a C++ compiler'
)
def test_inductor_trains_the_same(train, tmp_path):
    plain, compiled = train_both(train, tmp_path)
    torch.testing.assert_close(compiled['state_dict'], plain['state_dict'])


def test_a_model_without_backbone_is_refused(train):
    with pytest.raises(AttributeError, match='no attribute backbone'):
        train(1, compile=CompileHook())
