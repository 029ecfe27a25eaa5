"""Registries of the scope ``mmclip``, children of mmengine's root registries.

mmengine imports this module by itself when it meets ``type='mmclip.X'`` in
any scope. It would hide an error raised here, so this module does nothing
else.
"""

from mmengine import registry
from mmengine.registry import Registry


def _child(parent: Registry, *locations: str) -> Registry:
    return Registry(
        parent.name,
        parent=parent,
        scope='mmclip',
        locations=[f'mmclip.{location}' for location in locations],
    )


MODELS = _child(registry.MODELS, 'models.public', 'text', 'few_shot')
WEIGHT_INITIALIZERS = _child(registry.WEIGHT_INITIALIZERS, 'checkpoint.public')
DATASETS = _child(registry.DATASETS, 'datasets.public')
HOOKS = _child(registry.HOOKS, 'engine.public', 'evaluation')
OPTIM_WRAPPERS = _child(registry.OPTIM_WRAPPERS, 'engine.public')
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    registry.OPTIM_WRAPPER_CONSTRUCTORS, 'engine.public'
)
RUNNERS = _child(registry.RUNNERS, 'engine.public')
STRATEGIES = _child(registry.STRATEGIES, 'engine.public')
DATA_SAMPLERS = _child(registry.DATA_SAMPLERS, 'datasets.public')
TRANSFORMS = _child(registry.TRANSFORMS, 'datasets.public')
METRICS = _child(registry.METRICS, 'evaluation')
