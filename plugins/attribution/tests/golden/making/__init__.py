"""What makes the golden numbers; runs in the environments of the oracles, never in ours."""
