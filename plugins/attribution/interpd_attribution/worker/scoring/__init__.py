"""What is attributed: scores of predictions by step functions, contrasts, and sums of them."""
