"""Backpack language models: senses of words, and what they can be made to say.

``worker``, ``model`` and ``checkpoint`` are for where the model is and need torch. Everything else (edits and their
files, results, views, the client's part, the commands) needs numpy and the light base only; so nothing is imported
here.
"""
