"""Averages of weights, and what they score."""
