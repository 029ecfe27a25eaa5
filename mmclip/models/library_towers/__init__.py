"""Image towers that are open_clip's or timm's own modules."""
