"""Public test kit: conformance of plugins, fakes, tiny models, a pytest plugin."""
