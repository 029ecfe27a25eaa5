"""Image towers from open_clip, and back.

Configs describe a tower; tags say where its weights are and how images are
prepared. No text tower is built, and image towers only on the meta device,
where they take no memory.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mmclip.checkpoint.files.downloads import only_cached_files_if_offline
from mmclip.checkpoint.files.paths import (
    NO_TAG,
    SUFFIXES,
    WEIGHT_NAMES,
    files_of,
    is_local,
)
from mmclip.checkpoint.files.reading import read_state_dict
from mmclip.checkpoint.meta import Clip
from mmclip.checkpoint.towers.convert import check_complete, export
from mmclip.checkpoint.towers.dialects import (
    OPEN_CLIP,
    OPEN_CLIP_TOWER,
    TIMM,
    TIMM_MODEL,
    Dialect,
)
from mmclip.checkpoint.towers.open_clip_backbone import backbone_from_open_clip
from mmclip.checkpoint.towers.open_clip_tables import (
    default_preprocess,
    image_models,
    model_config,
    pretrained_tags,
)
from mmclip.checkpoint.towers.tower import (
    CLIP,
    OTHER,
    SIGLIP,
    TIMM_TOWER,
    Export,
    HubError,
    Source,
    Tower,
    load_call,
    note_head,
    refuse_missing,
)
from mmclip.errors import CheckpointError, did_you_mean, some
from mmclip.untrusted.model_configs import PREPROCESS, take_image_tower
from mmclip.untrusted.rules import read_json, take

# In OpenAI's archives, but not in open_clip's models.
OPENAI_BUFFERS = (
    'input_resolution',
    'context_length',
    'vocab_size',
    'attn_mask',
)


def open_clip_source(
    name: str, pretrained: str, tag: str | None = None
) -> Source:
    """Find a tower from open_clip and its weights.

    Args:
        name (str): A model name from open_clip, or a JSON file with a model
            config in its format.
        pretrained (str): A pretrained tag, or a local checkpoint file.
        tag (str | None): For a local file: the tag whose activation and
            preprocessing it uses, ``'none'`` to use the model config's.

    Raises:
        CheckpointError: If a name or tag is unknown or ambiguous.
        FileNotFoundError: If a local file is missing.
    """
    name = _clean_name(name)
    if is_local(pretrained):
        if tag is None:
            _refuse_ambiguity(name)
        return find_tower(name, tag), lambda: read_state_dict(pretrained)
    refuse_missing(pretrained, tag)
    tower = find_tower(name, pretrained)
    if tower.tag is None:
        raise CheckpointError(_unknown_tag(name, pretrained))
    return tower, lambda: read_state_dict(_download(name, pretrained))


def find_tower(name: str, tag: str | None) -> Tower:
    """Look up the properties of an open_clip image tower.

    Args:
        name (str): A model name from open_clip, or a JSON config file.
        tag (str | None): One of the name's pretrained tags; None or
            ``'none'`` for the model config alone.

    Raises:
        CheckpointError: If the name or tag is unknown.
    """
    path = Path(name)
    is_folder = path.name == 'open_clip_config.json'
    model_cfg, preprocess, quick_gelu = find_model(name, tag)
    size = model_cfg['vision_cfg'].get('image_size', 224)
    settings = default_preprocess() | preprocess
    return Tower(
        library='open_clip',
        name=path.absolute().parent.name if is_folder else path.name,
        tag=None if tag == NO_TAG else tag,
        backbone=backbone_from_open_clip(model_cfg, quick_gelu),
        img_size=size if isinstance(size, int) else tuple(size),
        preprocess=dict(
            mean=list(settings['mean']),
            std=list(settings['std']),
            interpolation=settings['interpolation'],
            resize_mode=settings['resize_mode'],
        ),
    )


def find_model(
    name: str, tag: str | None
) -> tuple[dict[str, Any], dict[str, Any], bool]:
    """Look up the config of a whole open_clip model.

    Returns:
        tuple[dict, dict, bool]: The model config, the preprocessing where it
        is not open_clip's default, and whether towers that are open_clip's
        own modules use QuickGELU.
    """
    name = _clean_name(name)
    model_cfg, preprocess = _read_config(name)
    tag_cfg: dict[str, Any] = {}
    if tag is not None and tag != NO_TAG:
        if Path(name).is_file():
            files_of(tag)  # refuses a folder without weights
            raise CheckpointError(
                f'{name} is a model config, which has no pretrained tags; got '
                f'{tag!r}. Give it with a file of weights and without --tag.'
            )
        tag_cfg = pretrained_tags(name).get(_clean(tag), {})
        if not tag_cfg:
            raise CheckpointError(_unknown_tag(name, tag))
    # Name or tag may say it: 19 pairs have a plain name and a QuickGELU tag
    # (mostly `openai`), one has a QuickGELU name and an unmarked tag.
    quick_gelu = bool(model_cfg.get('quick_gelu') or tag_cfg.get('quick_gelu'))
    return model_cfg, preprocess | tag_cfg, quick_gelu


def to_open_clip(
    tower: Mapping[str, Tensor],
    head: Mapping[str, Tensor],
    clip: Clip,
    base: Mapping[str, Tensor] | None = None,
) -> Export:
    """Rename a tower for open_clip.

    Raises:
        CheckpointError: If open_clip has no place for a part of the tower, or
            the base is another model.
    """
    backbone = clip['backbone']
    dialect, prefix = _names_of(backbone)
    notes = note_head(head, 'open_clip')
    pools_otherwise = backbone['out_type'] == 'avg_featmap'
    if pools_otherwise:
        notes.append(
            'features will DIFFER: the tower was fine-tuned with the mean of '
            'the patches, but open_clip pools as before; use --to timm or hf'
        )
    if base is None:
        if backbone['type'] == CLIP and 'proj' not in tower:
            raise CheckpointError(
                "open_clip's tower has a projection, but the checkpoint has "
                'none. '
                + (
                    'Pass --to timm or --to hf, which can average patches as '
                    'it does.'
                    if pools_otherwise
                    else 'Pass --base with the open_clip weights that '
                    'training started from, or --to timm or --to hf.'
                )
            )
        tensors = export(tower, dialect, prefix.removeprefix('visual.'))
        return Export(tensors, _usage(clip, notes, whole=False), notes)
    tensors = export(tower, dialect, prefix)
    whole = {key: base[key] for key in base}
    if sizes := [key for key in OPENAI_BUFFERS if key in whole]:
        whole = {key: whole[key] for key in whole if key not in sizes}
        notes.append(f'left out of the base: {", ".join(sizes)}')
    if alien := [key for key in tensors if key not in whole]:
        raise CheckpointError(
            f'The base is another model: it has no {some(alien)}.'
        )
    check_complete(tensors, {key: whole[key] for key in tensors})
    kept = [key for key in whole if key not in tensors]
    of_tower = [key for key in kept if key.startswith('visual.')]
    also = f', of the image tower {", ".join(of_tower)}' if of_tower else ''
    notes.append(f'from the base: {len(kept)} tensors{also}')
    return Export(whole | tensors, _usage(clip, notes, whole=True), notes)


def _usage(
    clip: Clip, notes: list[str], *, whole: bool
) -> Callable[[Path], str]:
    """Return the Python that loads a tower or a whole model in open_clip."""
    backbone, name = clip['backbone'], _find_name(clip)
    arguments, first = [], 'import open_clip\n'
    if name is None:
        arguments = ['NAME']
        notes.append(
            'NAME is not known: no model of open_clip has this tower; add its '
            'model config with open_clip.add_model_config'
        )
    elif Path(name).suffix == '.json':
        first += f'\nopen_clip.add_model_config({name!r})\n'
        arguments = [repr(Path(name).stem)]
    else:
        arguments = [repr(name)]
        size = find_tower(name, None).img_size
        if clip['img_size'] not in (None, size):
            arguments.append(f'force_image_size={clip["img_size"]!r}')
    if backbone.get('act') == 'quick_gelu':
        arguments.append('force_quick_gelu=True')

    def usage(out: Path) -> str:
        if whole:
            text = ', '.join([*arguments, f'pretrained={str(out)!r}'])
            return f'{first}\nmodel = open_clip.create_model({text})'
        line, weights = load_call(out)
        imports = first.replace('\n', f'\n{line}\n', 1)
        return (
            f'{imports}\nmodel = open_clip.create_model('
            f'{", ".join(arguments)})\n'
            f'model.visual.load_state_dict({weights})'
        )

    return usage


def _find_name(clip: Clip) -> str | None:
    """Return the name or config file of an open_clip model of such a tower.

    Towers may come from another library; a size may have changed since.
    """
    import open_clip

    backbone = clip['backbone']
    name = clip.get('source', {}).get('name')
    if name in open_clip.list_models() or str(name).endswith('.json'):
        return name
    for name, cfg in image_models():
        if cfg['vision_cfg'].get('image_size', 224) != clip['img_size']:
            continue  # spares building its trunk
        theirs = find_tower(name, None).backbone
        free = {'act'} if backbone['type'] == CLIP else set()
        free |= {'proj_dim'} - backbone.keys()
        if all(backbone.get(k) == theirs[k] for k in theirs.keys() - free):
            return name
    return None


def _names_of(backbone: dict[str, Any]) -> tuple[Dialect, str]:
    if backbone['type'] == OTHER:
        return OPEN_CLIP_TOWER, 'visual.'
    if backbone['type'] == TIMM_TOWER:
        return TIMM_MODEL, 'visual.trunk.'
    if backbone['type'] == SIGLIP or backbone.get('proj_bias'):
        return TIMM, 'visual.trunk.'
    return OPEN_CLIP, 'visual.'


def _download(name: str, tag: str) -> Path:
    from open_clip.pretrained import download_pretrained

    tag_cfg = pretrained_tags(name)[_clean(tag)]
    repository, _, file = tag_cfg['hf_hub'].rpartition('/')
    try:
        with only_cached_files_if_offline():
            return Path(download_pretrained(tag_cfg))
    except Exception as error:
        raise HubError(
            name, tag, repository, file or WEIGHT_NAMES[0], has_text=True
        ) from error


def _read_config(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the model config and its preprocessing, if any."""
    if Path(name).is_file():
        if Path(name).suffix in SUFFIXES:
            raise CheckpointError(
                f'{name} is a file of weights. Give the model name or model '
                'config first, then the weights.'
            )
        config = read_json(name)
        model_cfg = take_image_tower(config.get('model_cfg', config), name)
        preprocess = take(
            config.get('preprocess_cfg') or {},
            PREPROCESS,
            f'{name}, preprocess_cfg',
        )
        return model_cfg, preprocess
    if Path(name).suffix == '.json':
        raise FileNotFoundError(f'Model config {name} does not exist.')
    shipped = model_config(name)
    if shipped is None:
        import open_clip

        if 'naflex' in name.lower():
            raise CheckpointError(
                f'open_clip {open_clip.__version__} has no {name}: its NaFlex '
                'models came with version 4. timm has the image towers of '
                'two: mmclip convert naflexvit_base_patch16_siglip (or '
                'naflexvit_so400m_patch16_siglip) v2_webli OUT.pth'
            )
        who, names = 'open_clip has', open_clip.list_models()
        if re.fullmatch('[a-z][a-z0-9_]+', name):
            import timm

            if timm.is_model(name):
                raise CheckpointError(
                    f'open_clip has no model {name!r}, but timm has: give '
                    f'timm://{name}.TAG.'
                )
            who, names = 'open_clip and timm have', names + timm.list_models()
        near = did_you_mean(name, names, 0.3)
        raise CheckpointError(
            f'{who} no model {name!r}{near}; see open_clip.list_models().'
        )
    if 'vision_cfg' not in shipped:
        raise CheckpointError(f"open_clip's {name} has no image tower.")
    take_image_tower(shipped, name)  # refuses kinds that are not CLIP's
    return shipped, {}


def _refuse_ambiguity(name: str) -> None:
    """Refuse a local file without a tag if settings depend on the tag."""
    by_settings: dict[str, list[str]] = {}
    for tag in [NO_TAG, *pretrained_tags(name)]:
        tower = find_tower(name, tag)
        preprocess = (tower.preprocess or {}).values()
        act = tower.backbone.get('act', '')
        settings = ' '.join(map(str, [act, *preprocess]))
        by_settings.setdefault(settings, []).append(tag)
    if len(by_settings) > 1:
        choices = '\n  '.join(
            f'{", ".join(tags)}: {settings}'
            for settings, tags in by_settings.items()
        )
        raise CheckpointError(
            f'Weights of {name} come with different settings, and the file '
            'does not say which it needs. Pass --tag with the tag whose '
            f"settings it uses ('{NO_TAG}' for the model config's own).\n"
            f'  {choices}'
        )


def _unknown_tag(name: str, tag: str) -> str:
    known = list(pretrained_tags(name))
    if Path(tag).is_dir():
        return f'{tag} is a folder without weights, and not a tag of {name}.'
    if not known:
        return (
            f'open_clip has no pretrained weights for {name}, so {tag!r} is '
            'not a tag.'
        )
    return (
        f'{name} has no pretrained tag {tag!r}'
        f'{did_you_mean(_clean(tag), known, 0.5)}; its tags: '
        f'{", ".join(known)}.'
    )


def _clean_name(name: str) -> str:
    """Return open_clip's spelling of OpenAI's ``ViT-L/14``; keep paths."""
    return name if Path(name).is_file() else name.replace('/', '-')


def _clean(tag: str) -> str:
    """Return a tag as open_clip looks it up."""
    return tag.lower().replace('-', '_')
