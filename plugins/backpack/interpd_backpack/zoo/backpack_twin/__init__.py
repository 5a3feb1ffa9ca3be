"""The transformer of the shape that is inside the bundled Backpack; see README.md in this folder."""
