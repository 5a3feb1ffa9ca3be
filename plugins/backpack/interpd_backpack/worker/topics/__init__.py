"""Topic control: which senses speak for a bag of words, by how much each is scaled, and how that fades.

``scoring`` has what depends on the vocabulary only, ``annealing`` what depends on the text so far. The published code
and the paper's text differ in four places; ``formula`` says whose is meant.
"""
