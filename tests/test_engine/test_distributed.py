"""Several processes without a GPU, at their beginning and at their end."""

import pytest
import torch
from mmengine.config import Config

from mmclip.engine.distributed import use_gloo_without_gpu
from tests.test_engine.runs import finish, start, write_config

# Imported before the process group is there, and so called after it is left.
WRITE_THREADS = """
import atexit
from pathlib import Path

@atexit.register
def write_threads():
    tasks = Path('/proc/self/task').glob('*/comm')
    names = [task.read_text() for task in tasks]
    Path('threads' + os.environ['RANK']).write_text(''.join(names))
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason='with a GPU')
@pytest.mark.parametrize(
    ('settings', 'unused'),
    [
        ({}, False),
        (dict(find_unused_parameters=True), True),
        (dict(model_wrapper_cfg=dict(type='Mine', x=1)), None),
    ],
)
def test_the_model_is_wrapped_as_on_gpus(monkeypatch, settings, unused):
    monkeypatch.setattr('torch.distributed.init_process_group', str)
    monkeypatch.setattr('atexit.register', str)
    cfg = Config(dict(launcher='pytorch') | settings)
    use_gloo_without_gpu(cfg)
    wanted = settings.get('model_wrapper_cfg') or dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=unused,
    )
    assert cfg.model_wrapper_cfg == dict(wanted, device_ids=None)


@pytest.mark.slow
def test_no_thread_of_gloo_outlives_python(images):
    """One that lets go of a tensor then aborts the process now and then."""
    write_config(images, 'epochs', 0)
    with open(images / 'slow_down.py', 'a') as slow_down:
        slow_down.write(WRITE_THREADS)
    finish(start(images, 'run', 2))
    threads = [(images / f'threads{rank}').read_text() for rank in (0, 1)]
    assert all(threads)
    assert 'gloo' not in ''.join(threads)
