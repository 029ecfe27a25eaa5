"""The CLIP model that a user names."""
