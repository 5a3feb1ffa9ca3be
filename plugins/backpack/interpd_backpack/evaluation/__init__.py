"""What a Backpack, or an edit of one, is worth: word similarity, bias, topics, examples, perplexity."""
