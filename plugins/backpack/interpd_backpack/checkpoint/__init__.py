"""Checkpoints of Backpacks: their names, their variants, their conversion."""
