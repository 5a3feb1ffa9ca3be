"""Uploaded constants, and tensors as data."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from interpd.engine.store import Store
from interpd.engine.tensors import from_data, to_data
from interpd.errors import ArtifactNotFound, BlobNotFound, CallerError, DataLoss, InvalidRequest
from interpd.graph.digest import blob_digest
from interpd.graph.types import ITEM_BYTES, TensorData
from interpd.plugin.artifact import RegisteredArtifact, artifact, save_artifact


def store(**options):
    return Store({}, torch.device("cpu"), torch.float32, **options)


def uploaded(to, value):
    data = TensorData.from_numpy(np.full(10, value, np.float32))
    to.put_blob(blob_digest(data), data)
    return blob_digest(data)


def test_a_constant_is_found_by_its_digest():
    kept = store()
    assert (kept.blob(uploaded(kept, 3.0)) == 3).all()


def test_content_of_another_digest_is_refused():
    with pytest.raises(DataLoss, match="upload it again"):
        store().put_blob("0" * 64, TensorData.from_numpy(np.zeros(1)))


def test_the_constant_that_was_not_used_for_longest_goes_first():
    kept = store(blob_bytes=80)
    first, second = uploaded(kept, 1.0), uploaded(kept, 2.0)
    kept.blob(first)
    uploaded(kept, 3.0)
    assert (kept.blob(first) == 1).all()
    with pytest.raises(BlobNotFound):
        kept.blob(second)


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a b", "é", "x" * 201, "a/b"])
def test_a_name_that_no_file_could_have_is_refused(name, tmp_path):
    with pytest.raises(InvalidRequest, match="the name of an artifact has"):
        store().put_artifact(name, "scale", tmp_path / "file")
    with pytest.raises(InvalidRequest, match="the name of an artifact has"):
        store().save_artifact(name, Scale(torch.ones(3)))


def test_an_artifact_of_another_model_is_refused_at_the_door(tmp_path):
    kinds = {"scale": RegisteredArtifact(Scale.schema, Scale)}
    kept = Store(kinds, torch.device("cpu"), torch.float32, sizes={"d_model": 4, "head": 2})
    save_artifact(Scale(torch.ones(3)), tmp_path / "other.safetensors")
    with pytest.raises(InvalidRequest, match="artifact 'mine' is of another model: d_model is 3, the model's is 4"):
        kept.put_artifact("mine", "scale", tmp_path / "other.safetensors")
    (tmp_path / "0123").write_bytes(b"no safetensors")
    with pytest.raises(InvalidRequest, match="artifact 'mine' is not a readable safetensors file"):
        kept.put_artifact("mine", "scale", tmp_path / "0123")


def test_unknown_artifacts_and_kinds_are_the_callers_error(tmp_path):
    with pytest.raises(ArtifactNotFound, match="'dictionary'"):
        store().artifact("dictionary")
    with pytest.raises(CallerError, match="no artifact kind 'sae'"):
        store().put_artifact("dictionary", "sae", tmp_path / "file")


@artifact("scale")
@dataclass(frozen=True)
class Scale:
    """One number per axis."""

    by: Float[Tensor, " d_model"]


def test_a_dropped_artifact_is_unknown_and_a_file_of_our_own_is_gone(tmp_path):
    kept = Store({"scale": RegisteredArtifact(Scale.schema, Scale)}, torch.device("cpu"), torch.float32)
    _, own = kept.save_artifact("made", Scale(torch.ones(3)))
    given = tmp_path / "given.safetensors"
    save_artifact(Scale(torch.ones(3)), given)
    kept.put_artifact("given", "scale", given)
    for name in ("made", "given", "nobody"):
        kept.drop_artifact(name)
    assert kept.artifacts == {}
    assert (own.exists(), given.exists()) == (False, True)
    with pytest.raises(ArtifactNotFound):
        kept.artifact("made")
    kept.close()


@pytest.mark.parametrize("dtype", ITEM_BYTES)
def test_tensors_survive_the_way_to_bytes_and_back(dtype):
    tensor = torch.tensor([[0, 1, 1], [1, 0, 1]]).to(getattr(torch, dtype))
    data = to_data(tensor.T)
    assert (data.dtype, data.shape) == (dtype, (3, 2))
    assert torch.equal(from_data(data), tensor.T)


def test_empty_tensors_and_scalars_are_data_too():
    for tensor in (torch.zeros(0, 3), torch.tensor(2.5)):
        assert torch.equal(from_data(to_data(tensor)), tensor)
