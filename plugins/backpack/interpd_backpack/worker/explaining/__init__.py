"""What each sense of each token of a text contributes to a prediction."""
