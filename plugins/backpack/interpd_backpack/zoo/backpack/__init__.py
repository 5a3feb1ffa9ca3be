"""A small Backpack language model that this project trained; see README.md in this folder."""
