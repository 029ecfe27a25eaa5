"""The cost of a training run, counted without running it."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.utils import to_2tuple
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from mmclip.analysis.complexity import image_size, quiet_init, without_weights
from mmclip.text.contrastive_classifier import ContrastiveClassifier


@dataclass(frozen=True)
class TrainingCost:
    """The cost of training, counted and not measured.

    Args:
        params (int): Number of trained parameters.
        flops_per_image (int): Floating-point operations of the forward and
            backward pass; a multiplication and an addition are two.
        bytes_per_image (int): Bytes of the activations that autograd keeps,
            with autocast to bfloat16.
        bytes_of_states (int): Bytes of weights, gradients, AdamW's two
            moments and, if there is an EMA, its weights, in float32.
    """

    params: int
    flops_per_image: int
    bytes_per_image: int
    bytes_of_states: int

    def gpu_hours(self, images: float, tflops: float) -> float:
        """Estimate the GPU hours of a training run.

        Args:
            images (float): Number of images over all epochs.
            tflops (float): 10**12 operations per second that the GPU reaches
                in training, not its peak.
        """
        return self.flops_per_image * images / (tflops * 1e12) / 3600

    def memory(self, batch_size: int) -> int:
        """Return bytes on a GPU, without what allocators and kernels add."""
        return self.bytes_of_states + batch_size * self.bytes_per_image


def count_training_cost(
    cfg: Config, size: tuple[int, int] | None = None
) -> TrainingCost:
    """Count the training cost of a config's model, without weights files.

    For a :class:`ContrastiveClassifier` an image is counted with its caption,
    and random weights are made; other models' weights take no memory.

    Args:
        cfg (Config): A config whose ``model`` is a classifier with a
            :class:`CLIPVisionTransformer` or
            :class:`SigLIPVisionTransformer`, perhaps in a
            :class:`LoRAModel`, or a :class:`ContrastiveClassifier`.
        size (tuple[int, int] | None): Height and width of the images in
            pixels. Defaults to the backbone's.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    size = size or image_size(cfg)
    is_contrastive = MODELS.get(cfg.model.type) is ContrastiveClassifier
    # open_clip moves the weights that it makes, which fails with fake tensors.
    with (
        nullcontext()
        if is_contrastive
        else FakeTensorMode(allow_non_fake_inputs=True)
    ):
        with quiet_init():
            model = MODELS.build(without_weights(cfg)).train()
        # Also two, to leave out what all images of a batch share.
        one, flops = _count(model, 1, size)
        two, _ = _count(model, 2, size)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    everything = sum(p.numel() for p in model.parameters())
    has_ema = any(h.type == 'EMAHook' for h in cfg.get('custom_hooks') or [])
    return TrainingCost(
        params=trained,
        flops_per_image=flops,
        bytes_per_image=two - one,
        bytes_of_states=4 * ((1 + has_ema) * everything + 3 * trained),
    )


def epochs_by_size(cfg: Config) -> dict[tuple[int, int], int]:
    """Return how many epochs see images of each size, in pixels.

    mmpretrain's ``SwitchRecipeHook`` changes it with the pipeline.

    Args:
        cfg (Config): A config with ``train_cfg.max_epochs``.
    """
    pipelines = {1: cfg.train_dataloader.get('dataset', {}).get('pipeline')}
    for hook in cfg.get('custom_hooks') or []:
        for recipe in hook.get('schedule') or []:
            if 'train_pipeline' in recipe:
                pipelines[recipe.action_epoch] = recipe.train_pipeline
    begins = sorted(pipelines)
    ends = [*begins[1:], cfg.train_cfg.max_epochs + 1]
    epochs: dict[tuple[int, int], int] = {}
    for begin, end in zip(begins, ends, strict=True):
        size = _size_after(pipelines[begin] or [], image_size(cfg))
        epochs[size] = epochs.get(size, 0) + end - begin
    return epochs


def _size_after(
    pipeline: Sequence[Any], size: tuple[int, int]
) -> tuple[int, int]:
    """Return the size to which a pipeline crops; ``size`` if it does not."""
    for step in pipeline:
        name = str(step.type).rpartition('.')[2]
        if name in ('RandomResizedCrop', 'RandomCrop'):
            size = to_2tuple(step.get('scale') or step.get('crop_size'))
        elif name == 'CenterCrop':  # mmcv's has the width first
            size = to_2tuple(step.crop_size)[::-1]
    return size


def operations_of(call: Callable[[], Any]) -> int:
    """Count the floating-point operations of products and attention."""
    with FlopCounterMode(display=False, custom_mapping=_ATTENTION) as counter:
        call()
    return counter.get_total_flops()


def _attention(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(q, k, v)


def _attention_backward(
    grad: Any, q: Any, k: Any, v: Any, *_: Any, **__: Any
) -> int:
    return sdpa_backward_flop_count(grad, q, k, v)


# From shapes. torch 2.10 itself counts attention only on GPUs.
_aten = torch.ops.aten
_ATTENTION = {
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        _attention_backward
    ),
}


def _count(
    model: nn.Module, batch: int, size: tuple[int, int]
) -> tuple[int, int]:
    """Count the bytes kept for backward, and the operations of both passes."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> Any:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        return tensor

    images = torch.zeros(batch, 3, *size)
    with (
        FlopCounterMode(display=False, custom_mapping=_ATTENTION) as counter,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast('cpu', torch.bfloat16),
    ):
        _loss(model, images).backward()
    model.zero_grad()
    return sum(kept.values()), counter.get_total_flops()


def _loss(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Compute a scalar that costs as much as the loss, without labels."""
    if not isinstance(model, ContrastiveClassifier):
        return model(images).float().logsumexp(dim=1).sum()
    features = F.normalize(model.extract_feat(images)[-1], dim=-1)
    texts = model.text([''] * len(images))  # all texts are padded alike
    return model.contrast(features, texts, model.text.logit_scale)
