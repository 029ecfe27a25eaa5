"""A user's own images: read, split and looked over before anything runs."""
