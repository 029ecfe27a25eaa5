"""A small classifier with LoRA, for several test files."""

from pathlib import Path
from typing import Any

from mmclip.checkpoint import write_checkpoint
from tests.test_checkpoint.conftest import CLIP_BACKBONE, make_checkpoint


def lora_config(checkpoint: Path) -> dict[str, Any]:
    """The config of the model, whose tower comes from a checkpoint."""
    return dict(
        type='ImageClassifier',
        backbone=dict(
            type='mmclip.LoRAModel',
            module=CLIP_BACKBONE
            | dict(
                init_cfg=dict(
                    type='mmclip.PretrainedCLIP', checkpoint=str(checkpoint)
                )
            ),
            alpha=8,
            rank=4,
            targets=[
                dict(type='attn.qkv'),
                dict(type='attn.proj', rank=2),
                dict(type=r'.*ffn\.layers\.0\.0', alpha=3),
            ],
        ),
        head=dict(
            type='LinearClsHead',
            num_classes=3,
            in_channels=32,
            loss=dict(type='CrossEntropyLoss'),
        ),
    )


def write_tower(path: Path, seed: int = 0, rounded: bool = False) -> None:
    """Write random weights of a tower with a description of them."""
    source = dict(library='open_clip', name='tiny', tag=None, file=None)
    checkpoint, _ = make_checkpoint(
        CLIP_BACKBONE, seed=seed, img_size=32, source=source
    )
    if rounded:
        for tensor in checkpoint['state_dict'].values():
            tensor.copy_(tensor.half())
    write_checkpoint(checkpoint, path)
