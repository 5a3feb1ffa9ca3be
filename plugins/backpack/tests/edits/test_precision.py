"""Edits of models in half precision: computed in single precision, rounded once."""

import numpy as np
import pytest
import torch
from backpack_tests.edits import bare
from backpack_tests.tiny import tiny_backpack

import interpd_client
from interpd_backpack import worker
from interpd_backpack.client import Backpack
from interpd_backpack.edits import AddDelta, Edit, ProjectOut, ReplaceAssociation, Scale, fingerprint
from interpd_backpack.worker.edits.artifacts import SenseEdit, SenseOverrides

pytestmark = pytest.mark.slow

TEXT = "The nurse said that the doctor was happy"


def operations():
    """Factors that half precision does not have."""
    return (
        *(Scale("all", "all", 0.7), Scale("nurse", 0, 1 / 0.7), ProjectOut("all", ("she", "he"), share=0.3)),
        *(ReplaceAssociation("doctor", "she", "he"), AddDelta("nurse", 0, np.full(24, 1 / 3))),
    )


@pytest.fixture(scope="module")
def half():
    with interpd_client.local(tiny_backpack(torch.bfloat16), plugins={"backpack": worker}) as client:
        yield client.model("backpack")


def test_senses_are_rounded_once(half):
    model, tokenizer = tiny_backpack(torch.bfloat16)
    rounded = bare.Bare(model.double(), tokenizer)
    part = Backpack(half)
    edit = part.edit(*operations(), name="half", on_conflict="allow")
    with half.trace(TEXT) as t:
        own = t.senses
        part.with_edit(t, edit)
        t.save(own=own[0].to("float64"), senses=t.senses[0].to("float64"))
    # the model's own senses are rounded already: the edit begins with these
    ids = rounded.ids(TEXT)[0]
    rounded.senses[ids] = t.result["own"].transpose(1, 0, 2)
    wanted = rounded.table(edit.operations)[ids].transpose(1, 0, 2)
    assert np.abs(t.result["senses"] - wanted).max() / np.abs(wanted).max() < 2**-8
    exact = torch.tensor(wanted).to(torch.bfloat16).double().numpy()
    assert np.mean(t.result["senses"] == exact) > 0.99


def test_vectors_reach_a_worker_in_half_precision_as_they_are(half, tmp_path):
    edit = Edit([AddDelta(5, 0, np.full(24, 1 / 3))], "thirds", fingerprint(half.info))
    half.upload_artifact(edit.to_artifact(), "thirds", SenseEdit.schema.kind)
    with half.trace("The") as t:
        t.save(n=t.op("backpack.compile", edit="thirds", save_as="applied"))
    assert t.result["n"] == 1
    assert {one.name: one.kind for one in half.artifacts()}["applied"] == SenseOverrides.schema.kind
