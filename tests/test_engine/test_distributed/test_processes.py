"""Several processes without a GPU, at their beginning and at their end."""

from datetime import timedelta

import pytest
from mmengine.config import Config

from mmclip.engine.distributed.processes import use_gloo_without_gpu
from tests.processes import finish
from tests.test_engine.runs import start, write_config

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


def start_with(monkeypatch, cfg) -> dict:
    """What the process group is started with."""
    seen = {}

    def init_process_group(backend, **settings):
        seen.update(settings, backend=backend)

    name = 'torch.distributed.init_process_group'
    monkeypatch.setattr(name, init_process_group)
    monkeypatch.setattr('atexit.register', str)
    monkeypatch.setattr('torch.cuda.is_available', bool)
    cfg.launcher = 'pytorch'
    use_gloo_without_gpu(cfg)
    return seen


@pytest.mark.parametrize(
    ('settings', 'unused'),
    [
        ({}, False),
        (dict(find_unused_parameters=True), True),
        (dict(model_wrapper_cfg=dict(type='Mine', x=1)), None),
    ],
)
def test_the_model_is_wrapped_as_on_gpus(monkeypatch, settings, unused):
    start_with(monkeypatch, cfg := Config(settings))
    wanted = settings.get('model_wrapper_cfg') or dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=unused,
    )
    assert cfg.model_wrapper_cfg == dict(wanted, device_ids=None)


def test_a_process_that_does_not_answer_is_an_error_in_time(monkeypatch):
    dist_cfg = dict(backend='nccl', timeout=600)
    cfg = Config(dict(env_cfg=dict(dist_cfg=dist_cfg)))
    seen = start_with(monkeypatch, cfg)
    assert seen == dict(backend='gloo', timeout=timedelta(minutes=10))
    assert start_with(monkeypatch, Config())['timeout'] is None  # torch's own


@pytest.mark.slow
def test_no_thread_of_gloo_outlives_python(images):
    """One that lets go of a tensor then aborts the process now and then."""
    write_config(images, 'epochs', 0)
    with open(images / 'disturb.py', 'a') as module:
        module.write(WRITE_THREADS)
    finish(start(images, 'run', 2))
    threads = [(images / f'threads{rank}').read_text() for rank in (0, 1)]
    assert all(threads)
    assert 'gloo' not in ''.join(threads)
