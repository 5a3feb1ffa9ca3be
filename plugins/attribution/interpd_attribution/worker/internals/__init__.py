"""Methods that look at what the model does inside: attention, values, norms, and what each part adds to a logit."""
