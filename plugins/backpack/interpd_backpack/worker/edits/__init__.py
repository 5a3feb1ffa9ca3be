"""Edits at work: what they make of senses, compiled to sparse overrides, put in force row by row.

``composing`` carries the operations out on the senses of some tokens, ``compiling`` does so once for a model and keeps
the outcome as an artifact, ``applying`` has the operations that write it into a pass.
"""
