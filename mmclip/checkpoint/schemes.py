"""Checkpoint paths of OpenMMLab's configs, read by our safe reader.

mmengine's own loaders for local files fail on mmengine's own checkpoints with
torch >= 2.6, and those for URLs would execute what they hold.
"""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier, get_local_rank
from mmengine.runner import CheckpointLoader

from mmclip.checkpoint.files import read_checkpoint


@CheckpointLoader.register_scheme(prefixes='', force=True)
def load_from_local(path: str, map_location: Any = None) -> dict[str, Any]:
    """Read a local checkpoint."""
    return read_checkpoint(path, map_location)


@CheckpointLoader.register_scheme(prefixes=('http://', 'https://'), force=True)
def load_from_http(url: str, map_location: Any = None) -> dict[str, Any]:
    """Download a checkpoint into torch's hub folder, once a node; read it."""
    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    path = folder / os.path.basename(urlparse(url).path)
    if get_local_rank() == 0 and not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path))
    barrier()
    return read_checkpoint(path, map_location)
