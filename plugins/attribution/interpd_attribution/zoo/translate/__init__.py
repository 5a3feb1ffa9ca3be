"""A small translation model with a known gender bias; see README.md in this folder."""
