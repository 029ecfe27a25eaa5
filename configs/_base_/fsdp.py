# Weights, gradients and optimizer in shards: _base_ = [RECIPE, THIS FILE].
runner_type = 'mmclip.StrategyRunner'
strategy = dict(type='mmclip.FullyShardStrategy')
