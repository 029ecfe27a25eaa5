"""Loading configs, and refusing misspelt keys."""
