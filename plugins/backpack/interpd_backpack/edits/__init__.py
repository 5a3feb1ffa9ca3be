"""Edits of senses as data: what they are, their files, what of them contradicts what."""
