"""Fixtures of the Backpack plugin's tests."""
