"""What a plugin may declare, and the registry that checks and keeps it."""
