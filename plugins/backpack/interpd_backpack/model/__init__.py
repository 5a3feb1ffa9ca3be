"""The Backpack itself, as published, and the forms that others gave it."""
