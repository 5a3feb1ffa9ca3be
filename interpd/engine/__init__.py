"""Forms passes, lowers graphs to nnsight, owns the step loop. Knows torch."""
