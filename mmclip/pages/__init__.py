"""What pages have in common: how they are filled, and small pictures."""
