"""Senses of words: what they predict, what is like them, how they divide the work."""
