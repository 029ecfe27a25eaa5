"""Checkpoints, signals, and runs that go on exactly."""
