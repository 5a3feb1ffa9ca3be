"""Models that this plugin brings."""
