"""How faithful attributions are: metrics over changed inputs, and changes for checks of robustness and sanity."""
