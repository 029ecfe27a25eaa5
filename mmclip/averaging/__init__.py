"""Averages of weights, and their scores."""
