"""Checkpoints, signals, and exact resuming of runs."""
