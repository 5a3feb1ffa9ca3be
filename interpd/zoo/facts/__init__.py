"""A small language model that knows a synthetic world of facts; see README.md in this folder."""
