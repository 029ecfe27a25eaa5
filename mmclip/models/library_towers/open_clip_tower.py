"""open_clip's other image towers as OpenMMLab backbones."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from mmengine.utils import to_2tuple
from torch import Tensor

from mmclip.errors import CheckpointError
from mmclip.models.library_towers.library_tower import LibraryTower
from mmclip.pos_embed import IMAGE_SIZE
from mmclip.registry import MODELS
from mmclip.untrusted.model_configs import take_image_tower

# What open_clip and timm call the position embeddings of patches.
POSITIONS = ('positional_embedding', 'pos_embed')


@MODELS.register_module()
class OpenCLIPVisionTower(LibraryTower):
    """An open_clip module: ResNets, ConvNeXt, ViTamin, EVA and others.

    The text tower is not built. For plain vision transformers use
    :class:`CLIPVisionTransformer` or :class:`SigLIPVisionTransformer`, which
    resize position embeddings, as the converter does.

    Args:
        model (str | dict): An open_clip model name, such as
            ``'convnext_base_w'``, or a model config in its format, with
            ``embed_dim`` and ``vision_cfg``.
        out_type (str): ``'pooled'``: the image feature in the joint space,
            ``(B, D)``; ``'featmap'``: feature maps ``(B, C, H, W)``, with the
            trunk's channels and strides.
        out_indices (int | Sequence[int] | None): With ``'featmap'``, which
            of the trunk's stages or blocks to return, in increasing order;
            None for all. Defaults to None.
        frozen (bool): Keep all weights and the statistics of batch norms.
            Defaults to False.
        frozen_stages (int): Keep those of the first parts: -1 of none, 0 of
            the stem, n also of the first n stages (blocks, where there are no
            stages). Defaults to -1.
        norm_eval (bool): Keep the statistics of all batch norms, as for small
            batches. Defaults to False.
        with_cp (bool): Recompute activations in the backward pass, if the
            trunk supports it. Defaults to False.
        init_cfg (dict | list[dict] | None): Usually
            ``dict(type='mmclip.PretrainedCLIP', checkpoint=...)``.

    Raises:
        ValueError: If the name or an argument is unknown, or the trunk has no
            feature maps.
    """

    def __init__(
        self,
        model: str | dict[str, Any],
        *,
        out_type: str = 'pooled',
        out_indices: int | Sequence[int] | None = None,
        frozen: bool = False,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ):
        from open_clip.model import _build_vision_tower

        model_cfg = tower_config(model)
        super().__init__(
            _build_vision_tower(**model_cfg),
            out_type=out_type,
            out_indices=out_indices,
            frozen=frozen,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            with_cp=with_cp,
            init_cfg=init_cfg,
        )
        self.model_cfg = model_cfg
        self.register_load_state_dict_pre_hook(_refuse_other_images)
        self.register_state_dict_post_hook(_tell_image_size)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Encode a batch of normalised RGB images.

        Args:
            x (Tensor): ``(B, 3, height, width)`` in pixels.

        Returns:
            tuple[Tensor, ...]: The image feature, or the feature maps.
        """
        if self.out_type == 'pooled':
            return (self.tower(x),)
        outputs = self.tower.forward_intermediates(
            x, indices=self.out_indices, intermediates_only=True
        )
        return tuple(outputs['image_intermediates'])

    def architecture(self) -> dict[str, Any]:
        """Return the arguments that define this backbone."""
        arguments: dict[str, Any] = dict(
            model=self.model_cfg, out_type=self.out_type
        )
        if self.out_indices is not None:
            arguments |= dict(out_indices=self.out_indices)
        return arguments

    @property
    def img_size(self) -> int | tuple[int, int]:
        """The image height and width in pixels that the tower is made for."""
        size = self.model_cfg['vision_cfg'].get('image_size', 224)
        return size if isinstance(size, int) else (size[0], size[1])


def _tell_image_size(
    module: OpenCLIPVisionTower,
    state_dict: Any,
    prefix: str,
    local_metadata: dict,
) -> None:
    """Store the image size in the metadata where torch keeps its versions."""
    local_metadata[IMAGE_SIZE] = module.img_size


def _refuse_other_images(
    module: OpenCLIPVisionTower,
    state_dict: dict,
    prefix: str,
    local_metadata: dict,
    *_: Any,
) -> None:
    """Refuse position embeddings that match in number but not in grid.

    torch refuses those that differ in number.

    Raises:
        CheckpointError: If they are for images of another height and width.
    """
    theirs = local_metadata.get(IMAGE_SIZE)
    ours = tuple(to_2tuple(module.img_size))
    if theirs is None or tuple(to_2tuple(theirs)) == ours:
        return
    for name, param in module.named_parameters():
        given = state_dict.get(prefix + name)
        is_position = name.rpartition('.')[2] in POSITIONS
        if is_position and getattr(given, 'shape', None) == param.shape:
            raise CheckpointError(
                f'{prefix}{name} is for images of {theirs} pixels, but the '
                f"tower is for {ours}; open_clip's own towers cannot be "
                'resized: use a model config with that image_size.'
            )


def tower_config(model: str | dict[str, Any]) -> dict[str, Any]:
    """Return the part of an open_clip model config that the tower needs.

    Returns:
        dict: Arguments for open_clip's ``_build_vision_tower``:
        ``embed_dim``, ``vision_cfg`` (only what differs from open_clip's
        defaults) and ``quick_gelu``.

    Raises:
        CheckpointError: If the config has fields or values that a file must
            not choose, such as an address in place of a model name.
        ValueError: If open_clip has no such name.
    """
    import open_clip
    from open_clip.model import CLIPVisionCfg

    cfg = (
        open_clip.get_model_config(model) if isinstance(model, str) else model
    )
    if cfg is None:
        raise ValueError(
            f'open_clip has no model {model!r}; see open_clip.list_models().'
        )
    cfg = take_image_tower(cfg, f'The model config {model!r}'[:100])
    vision_cfg = CLIPVisionCfg(**cfg['vision_cfg'])
    # Weights come from checkpoints, and only the pooled feature is used.
    vision_cfg.timm_model_pretrained = vision_cfg.output_tokens = False
    native = not vision_cfg.timm_model_name and isinstance(
        vision_cfg.layers, int
    )
    return dict(
        embed_dim=cfg['embed_dim'],
        vision_cfg={
            field.name: getattr(vision_cfg, field.name)
            for field in dataclasses.fields(vision_cfg)
            if getattr(vision_cfg, field.name) != field.default
        },
        # timm's towers and ResNets have their own activations.
        quick_gelu=native and bool(cfg.get('quick_gelu', False)),
    )
