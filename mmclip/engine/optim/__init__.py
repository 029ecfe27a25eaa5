"""Optimizer wrappers and learning rates by layer."""
