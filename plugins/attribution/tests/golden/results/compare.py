"""Inseq 0.7.1 and this package on random results and random calls of ``aggregate``, side by side.

    python compare.py [N_CALLS] [SEED]      where both can be imported: this package needs numpy and rich beside Inseq

Every number is compared to 1e-6, every token and position exactly. A call that only Inseq cannot answer is counted; one
that only this package cannot answer, or a number that differs, ends with an error.
"""

import copy
import logging
import math
import random
import re
import sys
import warnings
from collections import Counter
from itertools import pairwise

import numpy as np
import torch
from inseq.data.aggregation_functions import DEFAULT_ATTRIBUTION_AGGREGATE_DICT
from inseq.data.attribution import (
    CoarseFeatureAttributionSequenceOutput,
    GranularFeatureAttributionSequenceOutput,
    MultiDimensionalFeatureAttributionSequenceOutput,
)
from inseq.utils.typing import TokenWithId

from interpd_attribution.attribution import Attribution, Token

PRISTINE = copy.deepcopy(DEFAULT_ATTRIBUTION_AGGREGATE_DICT)
FUNCTIONS = ("mean", "max", "min", "sum", "prod", "absmax", "vnorm")
STEP_SCORES = ("probability", "entropy", "perplexity", "pcxmi", "deltas", "logit", "contrast_prob_diff")
CLASSES = {
    ("d_model",): GranularFeatureAttributionSequenceOutput,
    (): CoarseFeatureAttributionSequenceOutput,
    ("layer",): MultiDimensionalFeatureAttributionSequenceOutput,
    ("layer", "head"): MultiDimensionalFeatureAttributionSequenceOutput,
}


class Pair:
    """The same random result as an object of Inseq and as one of ours."""

    def __init__(self, rng):
        self.rng = rng
        # Inseq's classes write their defaults into it, for all others that come after them
        DEFAULT_ATTRIBUTION_AGGREGATE_DICT.clear()
        DEFAULT_ATTRIBUTION_AGGREGATE_DICT.update(copy.deepcopy(PRISTINE))
        self.dims = rng.choice(list(CLASSES))
        self.sizes = tuple(rng.randint(1, 4) for _ in self.dims)
        self.is_decoder_only = rng.random() < 0.5
        self.marker = rng.choice("▁Ġ")
        self.generator = torch.Generator().manual_seed(rng.randrange(2**31))
        parts, sequence_scores = self._parts()
        self.theirs = self._theirs(parts, sequence_scores)
        self.ours = self._ours(parts, sequence_scores)

    def _parts(self):
        n_source = self.rng.randint(1, 7)
        start = n_source if self.is_decoder_only else self.rng.randint(0, 2)
        n = self.rng.randint(1, 6)
        target = [self._word() for _ in range(start + n)]
        source = target[:n_source] if self.is_decoder_only else [self._word() for _ in range(n_source)]
        parts = {
            "source": source,
            "target": target,
            "source_attributions": None if self.is_decoder_only else self._scores(n_source, n),
            "target_attributions": None,
            "step_scores": {name: torch.rand(n, generator=self.generator) for name in STEP_SCORES},
            "attr_pos_start": start,
            "attr_pos_end": start + n,
        }
        if self.is_decoder_only or self.rng.random() < 0.7:
            parts["target_attributions"] = self._scores(start + n, n)
            for column in range(n):
                parts["target_attributions"][start + column :, column] = math.nan
        sequence_scores = {}
        if len(self.dims) == 2 and not self.is_decoder_only:
            shapes = {"encoder_self": (n_source, n_source), "decoder_self": (n, n), "cross": (n_source, n)}
            sequence_scores = {name: self._scores(*shape) for name, shape in shapes.items()}
        return parts, sequence_scores

    def _word(self):
        marker = self.marker if self.rng.random() < 0.5 else ""
        return marker + "".join(self.rng.choice("abst.") for _ in range(self.rng.randint(1, 3)))

    def _scores(self, *shape):
        return torch.randn(*shape, *self.sizes, generator=self.generator) * 10 ** self.rng.uniform(-4, 2)

    def _theirs(self, parts, sequence_scores):
        cls = CLASSES[self.dims]
        extra = {"_num_dimensions": len(self.dims)} if cls is CLASSES[("layer",)] else {}
        sides = {side: [TokenWithId(text, n) for n, text in enumerate(parts[side])] for side in ("source", "target")}
        return cls(**{**copy.deepcopy(parts), **sides}, sequence_scores=copy.deepcopy(sequence_scores), **extra)

    def _ours(self, parts, sequence_scores):
        sides = {side: [Token(text, n) for n, text in enumerate(parts[side])] for side in ("source", "target")}
        arrays = {name: as_numpy(parts[name]) for name in ("source_attributions", "target_attributions", "step_scores")}
        return Attribution(**{**parts, **sides, **arrays}, dims=self.dims, sequence_scores=as_numpy(sequence_scores))

    def call(self):
        """Arguments and options of ``aggregate`` that mean something for this result."""
        kinds = ["spans", "subwords", "split", *(["scores", "function", "default", "pipeline"] if self.dims else [])]
        kind, function = self.rng.choice(kinds), self.rng.choice(FUNCTIONS)
        if kind in ("spans", "subwords", "split"):
            options = getattr(self, f"_{kind}")()
            return (kind,), {**options, **({"aggregate_fn": function} if self.rng.random() < 0.5 else {})}
        options = self.rng.choice([{}, {"normalize": False}, {"normalize": False, "rescale": True}])
        if kind == "default":
            return (), options
        if kind == "pipeline":
            stages = ["subwords", *["scores"] * len(self.dims)]
            functions = [self.rng.choice(("mean", "sum", "absmax")), *[function] * len(self.dims)]
            return (stages, functions), {**options, "special_chars": self.marker}
        if self.rng.random() < 0.5:
            options = {**options, "select_idx": self._selection(self.sizes[-1])}
        return (("scores", function) if kind == "scores" else (function,)), options

    def _selection(self, n):
        start = self.rng.randrange(n)
        entries = sorted(self.rng.sample(range(n), self.rng.randint(1, n)))
        return self.rng.choice([start, -self.rng.randint(1, n), (0, n), (start, n), entries])

    def _spans(self):
        options = {"target_spans": self._some(len(self.ours.target))}
        if not self.is_decoder_only and self.rng.random() < 0.7:
            options["source_spans"] = self._some(len(self.ours.source))
        return options

    def _some(self, n):
        cuts = sorted(self.rng.sample(range(n + 1), min(n + 1, self.rng.randint(2, 5))))
        return [span for span in pairwise(cuts) if self.rng.random() < 0.7] or [(0, n)]

    def _subwords(self):
        sides = {"aggregate_source": False} if not self.is_decoder_only and self.rng.random() < 0.3 else {}
        return {"special_chars": self.marker, **sides}

    def _split(self):
        pattern, mode = self.rng.choice(["s", "t+", "a", "[ab]"]), self.rng.choice(["single", "start", "end"])
        if any(shares_a_token(side, pattern) for side in (self.ours.source, self.ours.target)):
            # Inseq makes empty spans there
            pattern = "$^"
        return {"split_pattern": pattern, "split_mode": mode}


def shares_a_token(tokens, pattern):
    """Whether two matches touch one token."""
    owners = [number for number, token in enumerate(tokens) for _ in token.text]
    text = "".join(token.text for token in tokens)
    touched = [number for match in re.finditer(pattern, text) for number in set(owners[match.start() : match.end()])]
    return len(touched) > len(set(touched))


def as_numpy(value):
    if isinstance(value, dict):
        return {key: as_numpy(item) for key, item in value.items()}
    return None if value is None else value.numpy().copy()


def answered(call):
    try:
        return call(), None
    except Exception as error:  # whatever Inseq raises is an answer here
        return None, f"{type(error).__name__}: {str(error)[:60]}"


def assert_same(theirs, ours):
    assert [token.token for token in theirs.target] == [token.text for token in ours.target]
    assert (theirs.attr_pos_start, theirs.attr_pos_end) == (ours.attr_pos_start, ours.attr_pos_end)
    pairs = [(getattr(theirs, name), getattr(ours, name)) for name in ("source_attributions", "target_attributions")]
    for kind in ("step_scores", "sequence_scores"):
        pairs += [(values, getattr(ours, kind)[name]) for name, values in getattr(theirs, kind).items()]
    for one, other in pairs:
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_allclose(other, one.numpy(), atol=1e-6, rtol=2e-5)


def compare(rng):
    """What came of one call."""
    pair = Pair(rng)
    args, options = pair.call()
    theirs, refused = answered(lambda: pair.theirs.aggregate(*args, **options, do_post_aggregation_checks=False))
    # Inseq leaves the last token of a sequence by itself
    extra = {"keep_last": True} if "subwords" in str(args) else {}
    if refused:
        return f"only Inseq could not: {refused}"
    assert_same(theirs, pair.ours.aggregate(*args, **options, **extra))
    return str(args[0] if args else "default")


def main(n_calls=1000, seed=0):
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    rng = random.Random(seed)
    for what, count in Counter(compare(rng) for _ in range(n_calls)).most_common():
        print(f"{count:6}  {what}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
