"""Zero-shot segmentation: what is where in an image, from names alone."""
