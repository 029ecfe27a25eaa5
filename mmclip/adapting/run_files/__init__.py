"""What a run writes: its folder, model, config, answers and card."""
