"""Registries of the scope ``mmclip``, children of mmengine's root registries.

mmengine imports this module by itself when it meets ``type='mmclip.X'`` in
any scope. It would hide an error raised here, so this module does nothing
else.
"""

from mmengine import registry
from mmengine.registry import Registry

MODELS = Registry(
    'model',
    parent=registry.MODELS,
    scope='mmclip',
    locations=['mmclip.models.public', 'mmclip.text', 'mmclip.few_shot'],
)
WEIGHT_INITIALIZERS = Registry(
    'weight initializer',
    parent=registry.WEIGHT_INITIALIZERS,
    scope='mmclip',
    locations=['mmclip.checkpoint.public'],
)
DATASETS = Registry(
    'dataset',
    parent=registry.DATASETS,
    scope='mmclip',
    locations=['mmclip.datasets.public'],
)
HOOKS = Registry(
    'hook',
    parent=registry.HOOKS,
    scope='mmclip',
    locations=['mmclip.engine.public', 'mmclip.evaluation'],
)
OPTIM_WRAPPERS = Registry(
    'optimizer wrapper',
    parent=registry.OPTIM_WRAPPERS,
    scope='mmclip',
    locations=['mmclip.engine.public'],
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=registry.OPTIM_WRAPPER_CONSTRUCTORS,
    scope='mmclip',
    locations=['mmclip.engine.public'],
)
RUNNERS = Registry(
    'runner',
    parent=registry.RUNNERS,
    scope='mmclip',
    locations=['mmclip.engine.public'],
)
STRATEGIES = Registry(
    'strategy',
    parent=registry.STRATEGIES,
    scope='mmclip',
    locations=['mmclip.engine.public'],
)
DATA_SAMPLERS = Registry(
    'data sampler',
    parent=registry.DATA_SAMPLERS,
    scope='mmclip',
    locations=['mmclip.datasets.public'],
)
TRANSFORMS = Registry(
    'transform',
    parent=registry.TRANSFORMS,
    scope='mmclip',
    locations=['mmclip.datasets.public'],
)
METRICS = Registry(
    'metric',
    parent=registry.METRICS,
    scope='mmclip',
    locations=['mmclip.evaluation'],
)
