"""Edits that nobody has to think of: ranked, solved for, trained.

``rank_bias`` and ``optimal_scale`` are about the scale of one sense of a word (:mod:`bias`), ``finetune`` is about
vectors that are added to senses (:mod:`finetuning`). What is in this folder needs no torch.
"""
