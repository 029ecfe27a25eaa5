"""Fine-tuning of the tower: how long, the training, and how far to go."""
