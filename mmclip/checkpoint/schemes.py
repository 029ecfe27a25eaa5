"""Checkpoint paths of OpenMMLab's configs, read by our safe reader.

mmengine's own loaders for local files fail on mmengine's own checkpoints with
torch >= 2.6, and those for URLs would execute what they hold. The other
schemes convert on the fly; downloads and their caches are those of open_clip,
timm and huggingface_hub, which lock them, so that the ranks of a node download
once.
"""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from filelock import FileLock
from mmengine.runner import CheckpointLoader

from mmclip.checkpoint.errors import CheckpointError
from mmclip.checkpoint.files import read_checkpoint


@CheckpointLoader.register_scheme(prefixes='', force=True)
def load_from_local(path: str, map_location: Any = None) -> dict[str, Any]:
    """Read a local checkpoint."""
    return read_checkpoint(path, map_location)


@CheckpointLoader.register_scheme(prefixes=('http://', 'https://'), force=True)
def load_from_http(url: str, map_location: Any = None) -> dict[str, Any]:
    """Download a checkpoint into torch's hub folder, once a node; read it."""
    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / os.path.basename(urlparse(url).path)
    with FileLock(f'{path}.lock'):
        if not path.exists():
            torch.hub.download_url_to_file(url, str(path))
    return read_checkpoint(path, map_location)


@CheckpointLoader.register_scheme(prefixes='open_clip://')
def load_from_open_clip(path: str, map_location: Any = None) -> dict[str, Any]:
    """Convert ``open_clip://NAME/TAG``."""
    from mmclip.checkpoint.sources import convert_source

    name, slash, tag = path.removeprefix('open_clip://').rpartition('/')
    if not slash:
        raise CheckpointError(
            f'{path} must be open_clip://NAME/TAG, such as '
            'open_clip://ViT-L-14-336/openai.'
        )
    return _moved(convert_source(name, tag)[0], map_location)


@CheckpointLoader.register_scheme(prefixes='timm://')
def load_from_timm(path: str, map_location: Any = None) -> dict[str, Any]:
    """Convert ``timm://NAME.TAG``, with its classifier if it has one."""
    from mmclip.checkpoint.sources import convert_source

    name, dot, tag = path.removeprefix('timm://').partition('.')
    if not dot:
        raise CheckpointError(
            f'{path} must be timm://NAME.TAG, such as '
            'timm://vit_large_patch14_clip_336.laion2b_ft_in12k_in1k.'
        )
    return _moved(convert_source(name, tag)[0], map_location)


@CheckpointLoader.register_scheme(prefixes='hf-hub:')
def load_from_hub(path: str, map_location: Any = None) -> dict[str, Any]:
    """Convert ``hf-hub:ORG/REPOSITORY``, of open_clip or transformers."""
    from mmclip.checkpoint.sources import convert_repository

    checkpoint = convert_repository(path.removeprefix('hf-hub:'))
    return _moved(checkpoint, map_location)


@CheckpointLoader.register_scheme(prefixes='local-dir:')
def load_from_folder(path: str, map_location: Any = None) -> dict[str, Any]:
    """Convert ``local-dir:FOLDER``, of open_clip or transformers."""
    from mmclip.checkpoint.sources import convert_folder

    checkpoint = convert_folder(path.removeprefix('local-dir:'))
    return _moved(checkpoint, map_location)


def _moved(checkpoint: dict[str, Any], map_location: Any) -> dict[str, Any]:
    if map_location is not None:
        tensors = checkpoint['state_dict']
        checkpoint['state_dict'] = {
            key: tensor.to(map_location) for key, tensor in tensors.items()
        }
    return checkpoint
