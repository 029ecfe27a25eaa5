"""From image files to pixels: decoding, resizing, augmentation."""
