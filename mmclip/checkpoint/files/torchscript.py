"""The tensors of TorchScript archives, without running their program.

OpenAI published CLIP as such archives. ``torch.jit.load`` compiles and may
run the code in them; here only the pickle with the attributes is read, which
gives an inert object for every module of the program.
"""

import zipfile
from pathlib import Path
from typing import Any

from torch import Tensor

from mmclip.checkpoint.files.archive import Archive, is_archive
from mmclip.checkpoint.files.names import MODULE, NAMES_OF_TORCHSCRIPT
from mmclip.checkpoint.files.torch_files import read_archive
from mmclip.checkpoint.files.unpickler import Module, Unpickler
from mmclip.errors import CheckpointError

# Of a dotted name; those of CLIP's towers have less than a hundred characters.
_MAX_NAME = 500


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive: a zip with code in it."""
    if not is_archive(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition('/')[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False  # whoever reads it next says what is wrong
    has_code = any(name.startswith('code/') for name in names)
    return has_code and 'constants.pkl' in names


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Read the parameters and buffers of a TorchScript archive, on the CPU.

    Args:
        path (Path): The archive.

    Returns:
        dict[str, Tensor]: By their dotted names.

    Raises:
        CheckpointError: If it is damaged, or holds anything else than modules,
            tensors and plain values.
    """
    try:
        with Archive(path) as archive:
            root = read_archive(
                archive, kind=_Unpickler, names=NAMES_OF_TORCHSCRIPT
            )
        tensors = _collect(root)
    except CheckpointError as error:
        raise CheckpointError(f'{path} is refused: {error}') from None
    except Exception as error:  # a damaged pickle raises almost anything
        raise CheckpointError(
            f'{path} is a damaged TorchScript archive '
            f'({type(error).__name__}: {error}).'
        ) from error
    if not tensors:
        raise CheckpointError(
            f'{path} is a TorchScript archive without tensors.'
        )
    return tensors


class _Unpickler(Unpickler):
    """Knows the modules of the program, whatever they are called."""

    def find_class(self, module: str, name: str) -> Any:
        """What a name stands for."""
        if module == '__torch__' or module.startswith('__torch__.'):
            return MODULE
        return super().find_class(module, name)


def _collect(root: Any) -> dict[str, Tensor]:
    """The tensors below a module, in a flat dict."""
    tensors: dict[str, Tensor] = {}
    pending = [('', root)]
    while pending:
        name, value = pending.pop()
        if isinstance(value, Tensor):
            tensors[name] = value.detach()
        elif isinstance(value, Module):
            if len(name) > _MAX_NAME:
                raise CheckpointError('its modules have endless names.')
            pending += [
                (f'{name}.{key}' if name else str(key), child)
                for key, child in reversed(value.attributes.items())
            ]
    return tensors
