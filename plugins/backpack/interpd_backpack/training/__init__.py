"""Training of Backpacks, and of transformers to compare them with, on the caller's own text."""
