"""Answers for images, from a classifier that describes itself."""
