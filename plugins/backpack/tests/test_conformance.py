"""Every operation, method and artifact of the plugin behaves as the engine relies on."""

import json

import numpy as np
import pytest
import torch
from backpack_tests.tiny import tiny_backpack

from interpd.testing import conformance
from interpd.testing.tiny_models import TinyModel
from interpd_backpack import worker
from interpd_backpack.edits import AddDelta, Edit, Fingerprint, Scale
from interpd_backpack.finding.settings import Settings
from interpd_backpack.worker.edits.artifacts import SenseEdit, SenseOverrides
from interpd_backpack.worker.finding.checkpoint import Checkpoint

IDS = torch.tensor([[5, 6, 7], [8, 9, 4]])
EDIT = Edit((Scale(5, 2, 0.5), AddDelta(6, 1, np.ones(24))), "of tests", Fingerprint("", 94, 4, 24))
PLAN = {
    "steps": [{"scale": [1.0, 0.5, 2.0, 1.0]}, {"table": 0}, {"project": 0, "shares": [0.5, 1.0, 0.0, 1.0]}],
    "positions": [{"positions": [0], "factors": [0.5, 1.0, 1.0, 1.0]}],
    "fading": [{"table": 0, "strongest": 1.5, "formula": "code"}],
}


def tiny():
    model, tokenizer = tiny_backpack()
    return TinyModel(model, tokenizer, None)


def overrides():
    """All that an edit can be applied as."""
    of_floats = torch.Generator().manual_seed(0)
    return SenseOverrides(
        token_ids=torch.tensor([0, 3]),
        rows=torch.randn(2, 4, 24, generator=of_floats),
        factors=torch.rand(1, 94, 4, generator=of_floats, dtype=torch.float64),
        directions=torch.eye(24, dtype=torch.float64)[:1],
        spoken_against=torch.tensor([[[0, 1], [2, 3], [4, 5], [6, 7]]]),
        changes=torch.rand(1, 4, 2, generator=of_floats, dtype=torch.float64),
        masked_ids=torch.tensor([2]),
        plan=json.dumps(PLAN),
    )


def finetuning():
    """A checkpoint in the middle of nowhere."""
    pairs, tables = torch.zeros(2, dtype=torch.int64), torch.zeros(4, 2, 24, dtype=torch.float64)
    return Checkpoint(pairs, pairs.clone(), tables, torch.zeros(2).double(), "float32", 0, 0, "[]", "")


TEXTS = {"ids": IDS, "lengths": (3, 2)}
EDITED = {
    "ids": IDS,
    "items": torch.tensor([[0, 2], [1, 1]]),
    "vectors": torch.ones(1, 24, dtype=torch.float64),
    "edits": (json.dumps(EDIT.to_json()),),
}
ITEMS = torch.tensor([[0, 1, 1, 0], [1, 2, 2, 0]])

test_conforms = conformance(
    worker,
    model=tiny,
    artifacts={
        "sense_edit": SenseEdit(json.dumps(EDIT.to_json()), torch.ones(1, 24, dtype=torch.float64)),
        "sense_overrides": overrides(),
        "sense_finetuning": finetuning(),
    },
    examples={
        "backpack.anneal": {"strongest": 3.3},
        "backpack.compile": {"save_as": "compiled"},
        "backpack.senses": {"ids": (5, 6)},
        "backpack.reverse": {"target": 5},
        "backpack.nearest": {"ids": (5,), "sense": 1},
        "backpack.similarity": {"ids": (5, 6), "pairs": (0, 1)},
        "backpack.specialisation": {"tokens": (5, 6, 7)},
        "backpack.contributions_over": {
            **{"texts": (5, 6, 7, 8, 9), "lengths": (3, 2), "rows": (0, 1), "positions": (2, 1), "targets": (5, 6)},
        },
        "backpack.surprisals": TEXTS,
        "backpack.slopes": {**TEXTS, "scaled": torch.tensor([[6], [8]]), "targets": torch.tensor([5, 9])},
        "backpack.finetune": {"settings": Settings("say").to_json(), "ids": torch.arange(4, 10), "items": ITEMS},
        "backpack.topic": {"bag": (5, 6), "quantiles": (0.9, 0.5), "factors": (3.0, 2.0, 1.0)},
        "backpack.effects": EDITED,
        "backpack.logit_effects": {**EDITED, "targets": (5, 6)},
    },
)
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*its size is unknown before the run")]
