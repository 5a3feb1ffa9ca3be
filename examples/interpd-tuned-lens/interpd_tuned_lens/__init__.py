"""The tuned lens: one affine map per layer, from its residual stream to the one that the model ends with.

``worker`` is what workers load and needs torch; ``client`` (``model.tuned_lens``) and ``command``
(``interpd tuned-lens``) need the light base only, so nothing is imported here.
"""
