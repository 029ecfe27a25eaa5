# Weights, gradients and optimizer in shards: _base_ = [RECIPE, THIS FILE].
# Experimental: docs/distributed.md.
runner_type = 'mmclip.StrategyRunner'
strategy = dict(type='mmclip.FullyShardStrategy')
