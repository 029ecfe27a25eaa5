"""A small classifier with LoRA, for several test files."""

from pathlib import Path
from typing import Any

import torch

from mmclip.analysis.parity import randomize
from mmclip.checkpoint import write_checkpoint
from mmclip.models import CLIPVisionTransformer

TOWER = dict(
    arch=dict(width=32, depth=2, num_heads=2, mlp_width=64),
    act='quick_gelu',
    img_size=32,
    patch_size=8,
)


def lora_config(checkpoint: Path) -> dict[str, Any]:
    """The config of the model, whose tower comes from a checkpoint."""
    return dict(
        type='ImageClassifier',
        backbone=dict(
            type='mmclip.LoRAModel',
            module=dict(
                type='mmclip.CLIPVisionTransformer',
                **TOWER,
                init_cfg=dict(
                    type='mmclip.PretrainedCLIP', checkpoint=str(checkpoint)
                ),
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
    torch.manual_seed(seed)
    tower = CLIPVisionTransformer(**TOWER)
    randomize(tower)
    tensors = {f'backbone.{k}': t for k, t in tower.state_dict().items()}
    if rounded:
        tensors = {k: t.half().float() for k, t in tensors.items()}
    clip = dict(
        backbone=dict(
            type='mmclip.CLIPVisionTransformer', **TOWER | tower.architecture()
        ),
        img_size=32,
        preprocess=None,
        source=dict(library='open_clip', name='tiny', tag=None, file=None),
    )
    write_checkpoint(dict(meta=dict(clip=clip), state_dict=tensors), path)
