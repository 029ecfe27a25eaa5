"""All that a pickle may name is read, and no more."""

import pickle
from argparse import Namespace
from collections import Counter, OrderedDict, defaultdict
from pathlib import PosixPath

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer, MessageHub
from torch import nn

from mmclip.checkpoint import CheckpointError, read_checkpoint
from mmclip.checkpoint.files.pickles.allow_list import NAMES
from mmclip.checkpoint.files.pickles.tensors import STORAGES
from mmclip.checkpoint.files.pickles.unpickler import Named
from tests.test_checkpoint.test_files.test_pickled_numbers import (
    Numpy1Pickle,
    one_cycle,
)


def everything():
    """A value of each kind that the list of names knows."""
    parameter, marked = nn.Parameter(torch.ones(1)), torch.ones(1)
    parameter.is_marked = marked.is_marked = True
    return dict(
        history=HistoryBuffer([0.5, 0.25], [1, 2]),
        schedule=one_cycle('cos').state_dict(),
        config=ConfigDict(a=[dict(b=1)]),
        numbers=[np.float64(0.125), b'', b'\xff', 1j, torch.float32],
        containers=[{1}, frozenset('a'), Counter(a=2), OrderedDict(a=1)],
        defaults=[defaultdict(k, a=1) for k in (dict, int, float, list, set)],
        path=PosixPath('/a/b'),
        args=Namespace(lr=0.5, size=(3, 4)),
        tensors=[torch.ones(1, dtype=dtype) for dtype in STORAGES.values()],
        more=[torch.ones(1, dtype=torch.uint16), parameter, marked],
        parameter=nn.Parameter(torch.ones(2)),
        torchs=[torch.Size([1, 2]), torch.device('cpu')],
        typed=_FromType(),
        modules=nn.BatchNorm1d(1).state_dict(),
    )


class _FromType:
    """A parameter as some versions of torch write it."""

    def __reduce__(self):
        parameter = nn.Parameter(torch.ones(3))
        rebuild, args = parameter.__reduce_ex__(2)
        args = rebuild, nn.Parameter, args, {}
        return torch._tensor._rebuild_from_type_v2, args


class _Old:
    """A tensor as torch wrote it before it knew about gradients."""

    def __reduce__(self):
        storage = torch.storage.TypedStorage([7.0, 8.0])
        return torch._utils._rebuild_tensor, (storage, 1, (1,), (1,))


def test_every_kind_comes_back(tmp_path):
    torch.save(everything() | dict(old=_Old()), tmp_path / 'x.pth')
    found = read_checkpoint(tmp_path / 'x.pth')
    config = found['config']
    assert config == dict(a=[dict(b=1)])
    assert type(config) is type(config['a'][0]) is dict
    assert found['numbers'] == [0.125, b'', b'\xff', 1j, torch.float32]
    containers = [{1}, frozenset('a'), Counter(a=2), OrderedDict(a=1)]
    assert found['containers'] == containers
    assert list(map(type, found['containers'])) == list(map(type, containers))
    assert found['defaults'] == [dict(a=1)] * 5
    assert found['path'] == '/a/b'
    assert found['args'] == dict(lr=0.5, size=(3, 4))
    assert [t.dtype for t in found['tensors']] == list(STORAGES.values())
    assert all(tensor.item() == 1 for tensor in found['tensors'])
    assert found['more'][0].dtype == torch.uint16
    for parameter in (found['more'][1], found['parameter'], found['typed']):
        assert type(parameter) is nn.Parameter
    assert found['more'] == [1, 1, 1]
    assert found['torchs'] == [torch.Size([1, 2]), torch.device('cpu')]
    assert found['modules']._metadata == {'': dict(version=2)}
    assert found['old'] == torch.tensor([8.0])
    assert found['schedule'].keys() == one_cycle('cos').state_dict().keys()


def test_a_file_does_not_say_how_it_is_loaded(tmp_path):
    state_dict = nn.Linear(2, 1).half().state_dict()
    state_dict._metadata['']['assign_to_params_buffers'] = True
    torch.save(state_dict, tmp_path / 'x.pth')
    model = nn.Linear(2, 1)
    model.load_state_dict(read_checkpoint(tmp_path / 'x.pth'))
    assert model.weight.dtype == torch.float32


@pytest.mark.parametrize(
    'name', [name for name, value in NAMES.items() if isinstance(value, Named)]
)
def test_no_name_of_the_list_is_idle(tmp_path, monkeypatch, name):
    path = tmp_path / 'x.pth'
    new = name.startswith('numpy._core')
    if new and int(np.__version__.split('.')[0]) < 2:
        pytest.skip('numpy 1 does not write the names of numpy 2')
    value = _Old() if name.endswith('_rebuild_tensor') else everything()
    module = Numpy1Pickle if name.startswith('numpy.core') else pickle
    torch.save(dict(a=value), path, pickle_module=module)
    read_checkpoint(path)
    monkeypatch.delitem(NAMES, name)
    with pytest.raises(CheckpointError, match='could execute code'):
        read_checkpoint(path)


NUMBERS = [np.dtype(code) for code in np.typecodes['AllInteger'] + 'efdFD?']
TEXTS = [np.dtype(kind) for kind in ('U5', 'S5', '>U5', '>u2')]


@pytest.mark.parametrize('kind', NUMBERS + TEXTS)
def test_arrays_and_numbers_of_every_kind(tmp_path, kind):
    """mmpose's colours are bytes, for one."""
    array = np.array([[0, 1, 7], [1, 0, 9]]).astype(kind)
    value = dict(a=array, b=array[1, 2], c=array[:0], d=array.T, e=array.dtype)
    torch.save(dict(meta=value), tmp_path / 'x.pth')
    found = read_checkpoint(tmp_path / 'x.pth')['meta']
    for key in 'abcd':
        assert np.array_equal(found[key], value[key])
        assert found[key].dtype == value[key].dtype.newbyteorder('=')
    assert found['e'] == array.dtype


def test_what_a_run_stores_of_other_packages(tmp_path):
    """Nested metainfo as mmengine's configs bring it, and mmpose's."""
    dataset_meta = ConfigDict(
        classes=('a', 'b'),
        palette=[[1, 2, 3]] * 2,
        keypoint_colors=np.array([[255, 128, 0]], dtype=np.uint8),
        skeleton=ConfigDict(links=[(0, 1)], sigmas=np.ones(2, np.float32)),
    )
    hub = MessageHub('nested')
    hub.update_info('dataset_meta', dataset_meta)
    hub.update_info('best_score', np.float32(0.5))
    checkpoint = dict(
        meta=dict(dataset_meta=dataset_meta), message_hub=hub.state_dict()
    )
    torch.save(checkpoint, tmp_path / 'x.pth')
    found = read_checkpoint(tmp_path / 'x.pth')
    info = found['message_hub']['runtime_info']
    for meta in (found['meta']['dataset_meta'], info['dataset_meta']):
        assert type(meta) is type(meta['skeleton']) is dict
        assert meta['classes'] == ('a', 'b')
        assert meta['keypoint_colors'].tolist() == [[255, 128, 0]]
        assert meta['skeleton']['links'] == [(0, 1)]
    assert info['best_score'] == np.float32(0.5)
