"""Image towers of open_clip: their properties, their files, conversion.

Nothing here builds a model of open_clip: its configs say what the tower is,
its tags where the weights are and how images are prepared for them.
"""

import dataclasses
import difflib
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mmclip.checkpoint.convert import Conversion, check_complete, convert
from mmclip.checkpoint.dialects import OPEN_CLIP
from mmclip.checkpoint.errors import CheckpointError
from mmclip.checkpoint.files import SUFFIXES, read_state_dict
from mmclip.models.clip_vit import CLIPVisionTransformer
from mmclip.version import __version__

# Fields of open_clip's CLIPVisionCfg that a plain tower may set freely; the
# last two change neither the weights nor the image feature.
FREE_FIELDS = {
    'layers',
    'width',
    'head_width',
    'mlp_ratio',
    'patch_size',
    'image_size',
    'ls_init_value',
    'norm_kwargs',
    'patch_dropout',
    'output_tokens',
}
NO_TAG = 'none'


@dataclass(frozen=True)
class OpenCLIPTower:
    """What must be known of a tower besides its tensors.

    Args:
        name (str): open_clip's model name, or that of a config file.
        tag (str | None): The pretrained tag whose settings these are.
        arch (dict): Keyword arguments of ``CLIPVisionTransformer``.
        preprocess (dict): ``mean`` and ``std`` (of pixels in 0..1),
            ``interpolation``, ``resize_mode``.
    """

    name: str
    tag: str | None
    arch: dict[str, Any]
    preprocess: dict[str, Any]


def convert_open_clip(
    name: str, pretrained: str, tag: str | None = None
) -> tuple[dict[str, Any], Conversion]:
    """Convert the image tower of an open_clip model.

    Args:
        name (str): A model name of open_clip, or a JSON file with a model
            config in open_clip's format.
        pretrained (str): A pretrained tag, or a local checkpoint file.
        tag (str | None): For a local file: the tag whose activation and
            preprocessing it follows, ``'none'`` for the model config's own.

    Returns:
        tuple[dict, Conversion]: The checkpoint (``state_dict`` with the
        prefix ``backbone.`` and ``meta['clip']``), and the account of keys.

    Raises:
        CheckpointError: If anything is unknown, ambiguous or does not fit.
        FileNotFoundError: If a local file is missing.
    """
    name = name if Path(name).is_file() else name.replace('/', '-')
    if is_local := Path(pretrained).is_file():
        if tag is None:
            _refuse_ambiguity(name)
        path, tower = Path(pretrained), find_tower(name, tag)
    else:
        path, tower = _find_pretrained(name, pretrained, tag)
    conversion = convert(read_state_dict(path), OPEN_CLIP)
    with torch.device('meta'):
        reference = CLIPVisionTransformer(**tower.arch)
    try:
        check_complete(conversion.state_dict, reference.state_dict())
    except CheckpointError as error:
        raise CheckpointError(f'{path} is no {name}: {error}') from None
    checkpoint = dict(
        meta=dict(clip=_meta(tower, reference, path if is_local else None)),
        state_dict={
            f'backbone.{k}': v for k, v in conversion.state_dict.items()
        },
    )
    return checkpoint, conversion


def find_tower(name: str, tag: str | None) -> OpenCLIPTower:
    """Look up the properties of an open_clip image tower.

    Args:
        name (str): A model name of open_clip or a JSON config file.
        tag (str | None): One of the name's pretrained tags; None or
            ``'none'`` for the model config alone.

    Raises:
        CheckpointError: If the name or tag is unknown, or the tower is no
            plain CLIP vision transformer.
    """
    from open_clip.transform import PreprocessCfg

    model_cfg, preprocess = _read_config(name)
    tag_cfg: dict[str, Any] = {}
    if tag is not None and tag != NO_TAG:
        tag_cfg = _tags(name).get(_clean(tag), {})
        if not tag_cfg:
            raise CheckpointError(_unknown_tag(name, tag))
    # Either may say it: 19 pairs have a plain name and a QuickGELU tag (the
    # tag `openai` above all), one has a QuickGELU name and an unmarked tag.
    quick_gelu = model_cfg.get('quick_gelu') or tag_cfg.get('quick_gelu')
    settings = dataclasses.asdict(PreprocessCfg()) | preprocess | tag_cfg
    return OpenCLIPTower(
        name=name,
        tag=None if tag == NO_TAG else tag,
        arch=_arch(
            name, model_cfg, act='quick_gelu' if quick_gelu else 'gelu'
        ),
        preprocess=dict(
            mean=list(settings['mean']),
            std=list(settings['std']),
            interpolation=settings['interpolation'],
            resize_mode=settings['resize_mode'],
        ),
    )


def _find_pretrained(
    name: str, pretrained: str, tag: str | None
) -> tuple[Path, OpenCLIPTower]:
    if Path(pretrained).suffix in SUFFIXES or '/' in pretrained:
        raise FileNotFoundError(f'Checkpoint {pretrained} does not exist.')
    if tag is not None:
        raise CheckpointError(
            f'--tag {tag} is for local files, and {pretrained} is none.'
        )
    tower = find_tower(name, pretrained)
    return _download(name, pretrained), tower


def _download(name: str, tag: str) -> Path:
    from open_clip.pretrained import download_pretrained

    tag_cfg = _tags(name)[_clean(tag)]
    repository = tag_cfg['hf_hub'].strip('/')
    where = f'huggingface.co/{repository}' if repository else tag_cfg['url']
    try:
        _use_only_cached_files_if_offline()
        return Path(download_pretrained(tag_cfg))
    except Exception as error:
        raise CheckpointError(
            f'The weights of {name} {tag} could not be downloaded (no '
            f'network, or the hub is out of reach); fetch them from {where} '
            f'elsewhere and pass the file: {name} FILE OUT --tag {tag}.'
        ) from error


def _use_only_cached_files_if_offline() -> None:
    """Spare the user huggingface_hub's retries, a minute of them."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception:  # of whichever HTTP library it uses
        constants.HF_HUB_OFFLINE = True


def _read_config(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model config and the preprocessing that comes with it, if any."""
    import open_clip

    if Path(name).is_file():
        try:
            config = json.loads(Path(name).read_text(encoding='utf-8'))
        except ValueError as error:
            raise CheckpointError(f'{name} is no JSON file: {error}') from None
        model_cfg = config.get('model_cfg', config)
        if 'vision_cfg' not in model_cfg or 'embed_dim' not in model_cfg:
            raise CheckpointError(
                f'{name} is no open_clip model config: embed_dim and '
                'vision_cfg are needed.'
            )
        return model_cfg, config.get('preprocess_cfg', {})
    model_cfg = open_clip.get_model_config(name)
    if model_cfg is None:
        near = difflib.get_close_matches(name, open_clip.list_models(), 3, 0.3)
        raise CheckpointError(
            f'open_clip has no model {name!r}; the nearest names are '
            f'{", ".join(near)}.'
            if near
            else f'open_clip has no model {name!r}; see '
            'open_clip.list_models().'
        )
    return model_cfg, {}


def _arch(name: str, model_cfg: dict[str, Any], *, act: str) -> dict[str, Any]:
    """Keyword arguments of ``CLIPVisionTransformer`` for a model config."""
    from open_clip.model import CLIPVisionCfg

    cfg = CLIPVisionCfg(**model_cfg['vision_cfg'])
    special = [
        f'{field.name}={getattr(cfg, field.name)!r}'
        for field in dataclasses.fields(cfg)
        if field.name not in FREE_FIELDS
        and getattr(cfg, field.name) != field.default
    ]
    if not isinstance(cfg.layers, int):
        special.append(f'layers={cfg.layers!r}')
    norm_kwargs = dict(cfg.norm_kwargs or {})
    norm_eps = norm_kwargs.pop('eps', 1e-5)
    if norm_kwargs:
        special.append(f'norm_kwargs={cfg.norm_kwargs!r}')
    if special:
        raise CheckpointError(
            f'The image tower of {name} is no plain CLIP vision transformer '
            f'({", ".join(special)}), and CLIPVisionTransformer cannot hold '
            'it.'
        )
    return dict(
        arch=dict(
            width=cfg.width,
            depth=cfg.layers,
            num_heads=cfg.width // cfg.head_width,
            mlp_width=int(cfg.width * cfg.mlp_ratio),
        ),
        act=act,
        img_size=cfg.image_size,
        patch_size=cfg.patch_size,
        norm_eps=norm_eps,
        layer_scale_init=cfg.ls_init_value,
        proj_dim=model_cfg['embed_dim'],
    )


def _refuse_ambiguity(name: str) -> None:
    """Refuse a local file without a tag where the tags differ in settings."""
    tags = [NO_TAG, *_tags(name)]
    by_settings: dict[str, list[str]] = {}
    for tag in tags:
        tower = find_tower(name, tag)
        settings = ' '.join(
            [tower.arch['act'], *map(str, tower.preprocess.values())]
        )
        by_settings.setdefault(settings, []).append(tag)
    if len(by_settings) > 1:
        choices = '\n  '.join(
            f'{", ".join(tags)}: {settings}'
            for settings, tags in by_settings.items()
        )
        raise CheckpointError(
            f'Weights of {name} come with different settings, and the file '
            'does not say which are its own: pass --tag with the tag that it '
            f"follows ('{NO_TAG}': the model config alone).\n  {choices}"
        )


def _tags(name: str) -> dict[str, dict[str, Any]]:
    from open_clip import get_pretrained_cfg, list_pretrained_tags_by_model

    return {
        tag: get_pretrained_cfg(name, tag)
        for tag in list_pretrained_tags_by_model(name)
    }


def _unknown_tag(name: str, tag: str) -> str:
    known = list(_tags(name))
    if not known:
        return f'open_clip has no pretrained weights for {name}.'
    near = difflib.get_close_matches(_clean(tag), known, 3, 0.5)
    what = 'near are' if near else 'there are'
    return (
        f'{name} has no pretrained tag {tag!r}; {what} '
        f'{", ".join(near or known)}.'
    )


def _clean(tag: str) -> str:
    """A tag as open_clip looks it up."""
    return tag.lower().replace('-', '_')


def _meta(
    tower: OpenCLIPTower,
    reference: CLIPVisionTransformer,
    local_file: Path | None,
) -> dict[str, Any]:
    """``meta['clip']``: what the state dict cannot say."""
    return dict(
        arch=reference.describe(),
        pool='cls_token',
        img_size=tower.arch['img_size'],
        proj_dim=tower.arch['proj_dim'],
        preprocess=tower.preprocess,
        source=dict(
            library='open_clip',
            name=Path(tower.name).name,
            tag=tower.tag,
            file=local_file.name if local_file else None,
        ),
        versions=dict(
            mmclip=__version__,
            open_clip=version('open_clip_torch'),
            torch=version('torch'),
        ),
    )
