"""One Ray actor per model replica: load, run, drain, restart."""
