"""Methods that attribute to what layers compute; several sites come from one pass and one way back."""
