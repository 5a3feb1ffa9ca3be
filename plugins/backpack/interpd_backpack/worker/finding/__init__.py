"""Search for edits: how predictions move with the scales of senses, and training of additions to senses."""
