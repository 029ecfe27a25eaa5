"""Tables of names, and conversion between libraries in both directions."""
