"""Built-in operations: pure functions on tensors."""
