"""timm's vision transformers as OpenMMLab backbones."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mmclip.errors import DataError, check_choice
from mmclip.models.library_towers.library_tower import LibraryTower
from mmclip.registry import MODELS
from mmclip.untrusted.model_configs import is_timm_model

NORM_OUTPUTS = ('last', 'none')


@MODELS.register_module()
class TimmVisionTower(LibraryTower):
    """A vision transformer of timm: PE, EVA, TIPSv2, SigLIP2 NaFlex, others.

    It holds timm's own module without the classifier. Images may have any
    size whose height and width are multiples of the patch: the position
    embeddings keep the size that they have in the weights, and timm resizes
    them for each batch.

    Args:
        model (str): A model name of timm without a tag, such as
            ``'vit_pe_spatial_base_patch16_512'``.
        img_size (int | tuple[int, int] | None): Image height and width in
            pixels that the tower is given, for the checkpoint's description;
            None for those in timm. Defaults to None.
        proj_dim (int | None): Width D of CLIP's joint space, into which
            timm's ``head`` projects the pooled feature, in PE-Core and EVA's
            CLIP models; None for no projection. Defaults to None.
        out_type (str): ``'pooled'``: one vector, pooled as in timm,
            ``(B, C)`` or ``(B, D)``; ``'featmap'``: maps ``(B, C, H, W)`` of
            the patches.
        out_indices (int | Sequence[int] | None): With ``'featmap'``, which
            blocks' outputs to return, in increasing order; None for all.
            Defaults to None.
        norm_outputs (str): ``'last'``: the last block's map has passed the
            final norm, if the model has one before it pools; ``'none'``: no
            map has. Defaults to ``'last'``.
        frozen (bool): Keep all weights. Defaults to False.
        frozen_stages (int): -1 freezes nothing, 0 the stem, n also the first
            n blocks. Defaults to -1.
        norm_eval (bool): Keep the statistics of batch norms, which hybrid
            models have. Defaults to False.
        drop_path_rate (float): Stochastic depth rate of the last block.
            Defaults to 0.
        with_cp (bool): Recompute activations in the backward pass. Defaults
            to False.
        init_cfg (dict | list[dict] | None): Usually
            ``dict(type='mmclip.PretrainedCLIP', checkpoint=...)``.

    Raises:
        ValueError: If timm has no such model, it is not a vision transformer,
            or an argument is unknown.
    """

    def __init__(
        self,
        model: str,
        *,
        img_size: int | tuple[int, int] | None = None,
        proj_dim: int | None = None,
        out_type: str = 'pooled',
        out_indices: int | Sequence[int] | None = None,
        norm_outputs: str = 'last',
        frozen: bool = False,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ):
        check_choice('norm_outputs', norm_outputs, NORM_OUTPUTS)
        tower = create_timm_vit(
            model, num_classes=proj_dim or 0, drop_path_rate=drop_path_rate
        )
        super().__init__(
            tower,
            out_type=out_type,
            out_indices=out_indices,
            frozen=frozen,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            with_cp=with_cp,
            init_cfg=init_cfg,
        )
        # Or mmengine calls timm's init_weights after those of init_cfg.
        self.tower.is_init = True
        self.model, self.proj_dim = model, proj_dim
        self.img_size = timm_img_size(tower) if img_size is None else img_size
        self.norm_outputs = norm_outputs
        depth = len(tower.blocks)
        indices = self.out_indices or range(depth)
        self._has_last = any(index % depth == depth - 1 for index in indices)
        self._patch = tower.feature_info[0]['reduction']

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Encode a batch of normalised RGB images.

        Args:
            x (Tensor): ``(B, 3, height, width)`` in pixels.

        Returns:
            tuple[Tensor, ...]: The image feature, or the feature maps.

        Raises:
            DataError: If the images are not of whole patches.
        """
        height, width = x.shape[-2:]
        if height % self._patch or width % self._patch:
            raise DataError(
                f'{self.model} needs images of whole patches of {self._patch} '
                f'pixels; {height}x{width} are not. Pad them: '
                f'pad_size_divisor={self._patch}, in mmsegmentation '
                f'size_divisor={self._patch}.'
            )
        if self.out_type == 'pooled':
            return (self.tower(x),)
        *maps, last = self.tower.forward_intermediates(
            x, indices=self.out_indices, intermediates_only=True
        )
        if self._has_last and self.norm_outputs == 'last':
            channels_last = self.tower.norm(last.permute(0, 2, 3, 1))
            last = channels_last.permute(0, 3, 1, 2)
        return (*maps, last)

    def architecture(self) -> dict[str, Any]:
        """Return the arguments that define this backbone."""
        arguments: dict[str, Any] = dict(
            model=self.model, img_size=self.img_size, out_type=self.out_type
        )
        if self.proj_dim is not None:
            arguments |= dict(proj_dim=self.proj_dim)
        if self.out_indices is not None:
            arguments |= dict(out_indices=self.out_indices)
        if self.norm_outputs != 'last':
            arguments |= dict(norm_outputs=self.norm_outputs)
        return arguments


def create_timm_vit(name: str, **arguments: Any) -> Any:
    """Build a vision transformer of timm, with random weights.

    Args:
        name (str): Its name, without a tag.
        **arguments (Any): Of the model.

    Raises:
        ValueError: If timm has no such model, or it is another kind.
    """
    import timm
    from timm.models.eva import Eva
    from timm.models.naflexvit import NaFlexVit
    from timm.models.vision_transformer import VisionTransformer

    if '.' in name or not is_timm_model(name):
        raise ValueError(
            f'timm {timm.__version__} has no model {str(name)[:100]!r}'
            f'{since(str(name)) or ", or it has a tag"}; see '
            'timm.list_models().'
        )
    try:
        vit = timm.create_model(name, dynamic_img_size=True, **arguments)
    except TypeError:  # NaFlexVit takes every size, and no such argument
        vit = timm.create_model(name, **arguments)
    if type(vit) not in (VisionTransformer, Eva, NaFlexVit):
        raise ValueError(
            f"timm's {name} is a {type(vit).__name__}, not one of its plain "
            'vision transformers (VisionTransformer, Eva, NaFlexVit).'
        )
    return vit


def timm_img_size(vit: Any) -> int | tuple[int, int]:
    """Return the image size in pixels that a model of timm is made for."""
    patch_embed = getattr(vit, 'patch_embed', None)
    height, width = (
        getattr(patch_embed, 'img_size', None)
        or vit.pretrained_cfg['input_size'][1:]
    )
    return height if height == width else (height, width)


# What newer versions of timm have, by a part of the name. timm's release
# notes; mmclip's oldest timm has the others.
_SINCE = {'_tipsv2': '1.0.28'}


def since(name: str) -> str:
    """Say which version of timm has a model; nothing if it is not known."""
    for part, version in _SINCE.items():
        if part in name:
            return f': it came with timm {version}'
    return ''
