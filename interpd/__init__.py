"""interpd: intervention graphs on resident language models, shared by a lab."""

__version__ = "0.1.0"
