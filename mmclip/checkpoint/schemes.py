"""Loaders for the checkpoint paths in OpenMMLab's configs.

mmengine's own loaders fail on mmengine's own checkpoints with torch >= 2.6, or
could execute code in them, so all of its schemes use our safe reader. Our own
schemes convert on the fly. open_clip, timm and huggingface_hub download for
them, with caches that they lock, so each node downloads a file once.
"""

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.fileio import get_file_backend
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as catalogue

from mmclip.checkpoint.files.reading import OpenedPath, read_checkpoint
from mmclip.checkpoint.files.web import read_from_web
from mmclip.checkpoint.grids import tell_grid
from mmclip.errors import CheckpointError, did_you_mean

SCHEMES = ('open_clip://', 'timm://', 'hf-hub:', 'local-dir:', 'https://')


@CheckpointLoader.register_scheme(prefixes='', force=True)
def load_from_local(path: str, map_location: Any = None) -> dict[str, Any]:
    """Read a local checkpoint.

    Raises:
        CheckpointError: If it is a misspelt scheme rather than a file.
    """
    scheme = re.match(r'[A-Za-z][\w.+-]+:/*', path)
    if scheme and not os.path.exists(path):
        raise CheckpointError(
            f'{path} is not a file, and {scheme[0]} is none of '
            f'{", ".join(SCHEMES)}{did_you_mean(scheme[0], SCHEMES)}.'
        )
    return _read(path, map_location)


@CheckpointLoader.register_scheme(prefixes=('http://', 'https://'), force=True)
def load_from_http(url: str, map_location: Any = None) -> dict[str, Any]:
    """Read a checkpoint after downloading it into torch's hub folder.

    Each node downloads it once.
    """
    # Different files of two repositories may have the same name.
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    folder = Path(torch.hub.get_dir()) / 'checkpoints' / digest
    name = os.path.basename(urlparse(url).path)
    if name in ('', '.', '..'):
        raise CheckpointError(f'{url} does not name a file.')
    return read_from_web(
        url, folder / name, lambda path: _read(path, map_location)
    )


@CheckpointLoader.register_scheme(
    prefixes=[r'(\S+\:)?s3://', r'(\S+\:)?petrel://'], force=True
)
def load_from_ceph(url: str, map_location: Any = None) -> dict[str, Any]:
    """Fetch a checkpoint with mmengine's petrel backend, and read it."""
    backend = get_file_backend(url, backend_args=dict(backend='petrel'))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / os.path.basename(urlparse(url).path)
        path.write_bytes(backend.get(url))
        try:
            return _read(path, map_location)
        except CheckpointError as error:  # name the URL, not a temporary file
            reason = str(error).replace(str(path), url)
            raise CheckpointError(reason) from error


@CheckpointLoader.register_scheme(prefixes='pavi://', force=True)
def load_from_pavi(path: str, map_location: Any = None) -> dict[str, Any]:
    """Refuse ``pavi://``, whose package is not public."""
    raise CheckpointError(
        f'{path} cannot be downloaded here. Download it with the package '
        'pavi, and give the file.'
    )


@CheckpointLoader.register_scheme(
    prefixes=('torchvision://', 'modelzoo://'), force=True
)
def load_from_torchvision(
    path: str, map_location: Any = None
) -> dict[str, Any]:
    """Download and read ``torchvision://NAME``."""
    models = catalogue.get_torchvision_models()
    return load_from_http(_look_up(path, models), map_location)


@CheckpointLoader.register_scheme(
    prefixes=('open-mmlab://', 'openmmlab://'), force=True
)
def load_from_openmmlab(path: str, map_location: Any = None) -> dict[str, Any]:
    """Read ``open-mmlab://NAME``, from the web or from mmengine's home."""
    scheme, _, name = path.partition('://')
    name = catalogue.get_deprecated_model_names().get(name, name)
    url = _look_up(f'{scheme}://{name}', catalogue.get_external_models())
    if url.startswith(('http://', 'https://')):
        return load_from_http(url, map_location)
    home = catalogue._get_mmengine_home()
    return _read(Path(home) / url, map_location)


@CheckpointLoader.register_scheme(prefixes='mmcls://', force=True)
def load_from_mmcls(path: str, map_location: Any = None) -> dict[str, Any]:
    """Download ``mmcls://NAME``, and read its backbone."""
    url = _look_up(path, catalogue.get_mmcls_models())
    checkpoint = load_from_http(url, map_location)
    return catalogue._process_mmcls_checkpoint(checkpoint)


@CheckpointLoader.register_scheme(prefixes='open_clip://')
def load_from_open_clip(path: str, map_location: Any = None) -> dict[str, Any]:
    """Convert ``open_clip://NAME/TAG``."""
    from mmclip.checkpoint.towers.open_clip import open_clip_source
    from mmclip.checkpoint.towers.sources import convert_found

    name, slash, tag = path.removeprefix('open_clip://').rpartition('/')
    if not slash:
        raise CheckpointError(
            f'{path} must be open_clip://NAME/TAG, such as '
            'open_clip://ViT-L-14-336/openai.'
        )
    checkpoint, _ = convert_found(open_clip_source(name, tag), tag)
    return _moved(checkpoint, map_location)


@CheckpointLoader.register_scheme(prefixes='timm://')
def load_from_timm(path: str, map_location: Any = None) -> dict[str, Any]:
    """Convert ``timm://NAME.TAG``, with its classifier if it has one."""
    from mmclip.checkpoint.towers.sources import convert_found
    from mmclip.checkpoint.towers.timm import timm_source

    name, dot, tag = path.removeprefix('timm://').partition('.')
    if not dot:
        raise CheckpointError(
            f'{path} must be timm://NAME.TAG, such as '
            'timm://vit_large_patch14_clip_336.laion2b_ft_in12k_in1k.'
        )
    checkpoint, _ = convert_found(timm_source(name, tag), tag)
    return _moved(checkpoint, map_location)


@CheckpointLoader.register_scheme(prefixes='hf-hub:')
def load_from_hub(path: str, map_location: Any = None) -> dict[str, Any]:
    """Convert ``hf-hub:ORG/REPOSITORY``, from open_clip or transformers."""
    from mmclip.checkpoint.towers.sources import convert_repository

    checkpoint = convert_repository(path.removeprefix('hf-hub:'))
    return _moved(checkpoint, map_location)


@CheckpointLoader.register_scheme(prefixes='local-dir:')
def load_from_folder(path: str, map_location: Any = None) -> dict[str, Any]:
    """Convert ``local-dir:FOLDER``, from open_clip or transformers."""
    from mmclip.checkpoint.towers.sources import convert_folder

    try:
        checkpoint = convert_folder(path.removeprefix('local-dir:'))
    except FileNotFoundError as error:
        raise CheckpointError(f'{path}: {error}') from None
    return _moved(checkpoint, map_location)


def _read(path: str | Path, map_location: Any) -> dict[str, Any]:
    """Read a checkpoint for mmengine, without the config in it.

    mmengine's Inferencers would execute that config as Python.
    """
    if isinstance(path, OpenedPath) and path.weights is not None:
        checkpoint = path.weights.read(map_location)
        path.weights = None  # frees their memory
    else:
        checkpoint = read_checkpoint(path, map_location)
    meta = checkpoint.get('meta')
    if isinstance(meta, dict):
        meta.pop('cfg', None)
    return checkpoint


def _moved(checkpoint: dict[str, Any], map_location: Any) -> dict[str, Any]:
    tell_grid(checkpoint, 'the weights')
    if map_location is not None:
        tensors = checkpoint['state_dict']
        tensors.update((k, v.to(map_location)) for k, v in tensors.items())
    return checkpoint


def _look_up(path: str, urls: dict[str, str | None]) -> str:
    scheme, _, name = path.partition('://')
    # torchvision also lists models without weights.
    known = {name: url for name, url in urls.items() if url}
    if name not in known:
        raise CheckpointError(
            f'{scheme}:// has no model {name!r}{did_you_mean(name, known)}.'
        )
    return known[name]
