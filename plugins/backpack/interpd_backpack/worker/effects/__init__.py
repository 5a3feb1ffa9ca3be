"""What many edits do to predictions, from one forward pass.

The weights of senses do not depend on the senses, so an edit of senses moves the sum that logits are made of by

    scale * sum_jl (alpha'_jl C'(x_j)_l - alpha_jl C(x_j)_l)

and ``alpha`` of one pass serves for all edits. ``seen`` keeps what is needed of a pass, ``shifts`` has the sum,
``method`` what is asked for.
"""
