"""Admission, limits, fair queue, placement on replicas. Pure Python."""
