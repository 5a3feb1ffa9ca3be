"""Measurements that are too much data for a trace: how surprised the model is by texts."""
