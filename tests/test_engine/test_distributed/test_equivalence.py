"""Several processes, or several small steps, train what one big step does."""

import pytest

from tests.processes import finish
from tests.test_engine.runs import final_checkpoint, start, write_config

# Sums of the same numbers in another order, over 20 steps.
RELATIVE_TOLERANCE = 1e-4


def train(folder, work_dir, batch_size, processes=1, accumulate=1):
    write_config(folder, 'epochs', workers=0)
    path = folder / 'config.py'
    text = path.read_text()
    text = text.replace('batch_size=4', f'batch_size={batch_size}')
    # What depends on the number of steps or processes by its nature.
    text = text.replace('drop_path_rate=0.3, patch_dropout=0.3,', '')
    text += f"""
param_scheduler = []
optim_wrapper.update(accumulative_counts={accumulate})
optim_wrapper['optimizer'] = dict(type='SGD', lr=0.1)
custom_hooks = []
model['train_cfg'] = None
"""
    path.write_text(text)
    finish(start(folder, work_dir, processes))
    return final_checkpoint(folder / work_dir)['state_dict']


@pytest.mark.slow
def test_processes_and_accumulation(images):
    wanted = train(images, 'whole', batch_size=8)
    others = {
        'two processes': train(images, 'ddp', batch_size=4, processes=2),
        'two small steps': train(images, 'small', 4, accumulate=2),
    }
    for name, weights in others.items():
        for key, tensor in wanted.items():
            difference = (weights[key] - tensor).abs().max()
            bound = RELATIVE_TOLERANCE * tensor.abs().max()
            assert difference <= bound, (name, key)
    untrained = train(images, 'other', batch_size=16)
    assert any(
        (untrained[key] - wanted[key]).abs().max()
        > RELATIVE_TOLERANCE * wanted[key].abs().max()
        for key in wanted
    )
