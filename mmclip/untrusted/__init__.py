"""What may be taken from files of strangers, and how it is checked."""
