"""Checks before a run's first step, made in the first process."""
