"""What several tests of this plugin need."""

import importlib.machinery
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from interpd_attribution.attribution import Attribution, Token

GOLDEN = Path(__file__).parent / "golden"
RESULTS = GOLDEN / "results"

# import mode importlib gives test modules no package to import from: ``from attribution_golden import reading, tiny``
_package = importlib.machinery.ModuleSpec("attribution_golden", None, is_package=True)
_package.submodule_search_locations = [str(GOLDEN)]
sys.modules.setdefault("attribution_golden", importlib.util.module_from_spec(_package))


@pytest.fixture(scope="session")
def golden_results():
    """What Inseq made of random results: ``kinds`` (its files, by name), ``aggregated``, ``steps``."""
    return {name: json.loads((RESULTS / f"{name}.json").read_text()) for name in ("kinds", "aggregated", "steps")}


def tokens(*texts):
    return tuple(Token(text, number) for number, text in enumerate(texts))


@pytest.fixture
def make():
    """Random results: ``make(dims={"layer": 2})``; with ``source=()`` those of a decoder-only model."""

    def made(source=("▁the", "▁cat", "s", "</s>"), target=("<pad>", "▁die", "▁Katz", "en", "</s>"), start=1, **extra):
        sizes = extra.pop("dims", {})
        rng = np.random.default_rng(extra.pop("seed", 0))
        n = len(target) - start
        rows = rng.normal(size=(len(target), n, *sizes.values())).astype(np.float32)
        for column in range(n):
            rows[start + column :, column] = np.nan
        of_source = rng.normal(size=(len(source), n, *sizes.values())) if source else None
        given = {
            "source": tokens(*source) if source else tokens(*target[:start]),
            "target": tokens(*target),
            "source_attributions": of_source,
            "target_attributions": rows,
            "dims": tuple(sizes),
            "step_scores": {"probability": rng.uniform(size=n), "entropy": rng.uniform(size=n)},
            "attr_pos_start": start,
        }
        return Attribution(**{**given, **extra})

    return made
