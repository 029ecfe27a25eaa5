"""From a user's images to a classifier, a page and predictions."""
