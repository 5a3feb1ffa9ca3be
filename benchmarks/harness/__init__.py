"""What the claims share: their registry, the stage on which they run, repetitions, rows and the table."""
