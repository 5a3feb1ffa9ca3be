"""Edits that nobody has to think of: ranked, solved for, trained."""
