"""The page that shows what a run made, and how good it is."""
