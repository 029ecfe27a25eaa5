"""Checks of values that come from strangers' files."""
