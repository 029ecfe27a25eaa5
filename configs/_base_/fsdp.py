# Shards weights, gradients and optimizer: _base_ = [RECIPE, THIS FILE].
# Experimental: see docs/distributed.md.
runner_type = 'mmclip.StrategyRunner'
strategy = dict(type='mmclip.FullyShardStrategy')
