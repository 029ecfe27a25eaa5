"""What a training run costs, counted without running it."""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
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
    """Counted, not measured.

    Args:
        params (int): Parameters that are trained.
        flops_per_image (int): Floating-point operations of forward and
            backward, a multiplication and an addition as two.
        bytes_per_image (int): Of the activations that autograd keeps, with
            autocast to bfloat16.
        bytes_of_states (int): Of weights, gradients, the two moments of AdamW
            and, if there is an EMA, its weights, in float32.
    """

    params: int
    flops_per_image: int
    bytes_per_image: int
    bytes_of_states: int

    def gpu_hours(self, images: float, tflops: float) -> float:
        """Of a GPU that does so many 10**12 operations a second in training.

        Args:
            images (float): How many, all epochs together.
            tflops (float): What is reached, not the peak.
        """
        return self.flops_per_image * images / (tflops * 1e12) / 3600

    def memory(self, batch_size: int) -> int:
        """Bytes on a GPU without what allocators and kernels add."""
        return self.bytes_of_states + batch_size * self.bytes_per_image


def count_training_cost(cfg: Config) -> TrainingCost:
    """Count for the model of a config, without files of weights.

    Of a :class:`ContrastiveClassifier`, an image is counted with its caption;
    its weights are made, at random, while those of others take no memory.

    Args:
        cfg (Config): A config whose ``model`` is a classifier with a
            :class:`CLIPVisionTransformer` or
            :class:`SigLIPVisionTransformer`, perhaps in a
            :class:`LoRAModel`, or a :class:`ContrastiveClassifier`.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    size = image_size(cfg)
    is_contrastive = MODELS.get(cfg.model.type) is ContrastiveClassifier
    # open_clip moves the weights that it makes, which fake ones do not bear.
    with (
        nullcontext()
        if is_contrastive
        else FakeTensorMode(allow_non_fake_inputs=True)
    ):
        with quiet_init():
            model = MODELS.build(without_weights(cfg)).train()
        # Two, so that what all images share is not counted as an image's.
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


def _attention(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(q, k, v)


def _attention_backward(
    grad: Any, q: Any, k: Any, v: Any, *_: Any, **__: Any
) -> int:
    return sdpa_backward_flop_count(grad, q, k, v)


# Of shapes. torch 2.10 itself counts attention on GPUs only.
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
    """Bytes kept for the backward pass, and operations of both."""
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
    """A scalar with the cost of the loss, whatever the labels are."""
    if not isinstance(model, ContrastiveClassifier):
        return model(images).float().logsumexp(dim=1).sum()
    features = F.normalize(model.extract_feat(images)[-1], dim=-1)
    texts = model.text([''] * len(images))  # all are as long
    return model.contrast(features, texts, model.text.logit_scale)
