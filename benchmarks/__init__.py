"""What interpd is measured against: one file per claim. ``python -m benchmarks`` runs them; see README.md."""
