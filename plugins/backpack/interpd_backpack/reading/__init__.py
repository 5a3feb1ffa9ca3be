"""Senses of words: what they predict, how alike they are."""
