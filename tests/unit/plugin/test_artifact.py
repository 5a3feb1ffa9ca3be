from dataclasses import dataclass

import pytest
import torch
from jaxtyping import Float, Float64
from safetensors.torch import save_file
from torch import Tensor

from interpd.errors import InvalidRequest
from interpd.plugin.artifact import RegisteredArtifact, artifact, load_artifact, save_artifact
from interpd.plugin.declaration import DeclarationError


@artifact("sae")
@dataclass(frozen=True)
class Sae:
    """Weights of one sparse autoencoder."""

    w_enc: Float[Tensor, "d_model d_sae"]
    b_enc: Float[Tensor, " d_sae"]
    threshold: Float[Tensor, " d_sae"] | None = None
    site: str = "layers.0.resid_post"
    top_k: int = 0


def weights(d_model=4, d_sae=6):
    return {"w_enc": torch.ones(d_model, d_sae), "b_enc": torch.zeros(d_sae)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sae.safetensors"


def test_what_was_saved_comes_back(path):
    save_artifact(Sae(**weights(), site="layers.2.mlp.out", top_k=5), path)
    loaded = load_artifact(Sae, path)
    assert torch.equal(loaded.w_enc, weights()["w_enc"])
    assert (loaded.threshold, loaded.site, loaded.top_k) == (None, "layers.2.mlp.out", 5)


def test_floating_tensors_are_cast_and_placed(path):
    save_file(weights(), path)
    loaded = load_artifact(Sae, path, device="cpu", dtype=torch.bfloat16)
    assert (loaded.w_enc.dtype, loaded.w_enc.device.type) == (torch.bfloat16, "cpu")


@artifact("factors")
@dataclass(frozen=True)
class Factors:
    """Numbers that half precision would not tell apart."""

    exact: Float64[Tensor, " d_vocab"]
    rounded: Float[Tensor, " d_vocab"]


def test_tensors_of_a_declared_dtype_keep_it(path):
    third = torch.full((2,), 1 / 3, dtype=torch.float64)
    save_artifact(Factors(exact=third, rounded=third.clone()), path)
    loaded = load_artifact(Factors, path, dtype=torch.bfloat16)
    assert torch.equal(loaded.exact, third)
    assert loaded.rounded.dtype == torch.bfloat16


def test_the_axis_sizes_come_from_the_header(path):
    save_file(weights(4, 6), path)
    assert RegisteredArtifact(Sae.schema, Sae).dims(path) == {"d_model": 4, "d_sae": 6}


def test_plain_strings_of_other_tools_are_read(path):
    save_file(weights(), path, metadata={"site": "embed", "format": "pt"})
    assert load_artifact(Sae, path).site == "embed"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b_enc": None}, "no artifact of kind 'sae': missing 'b_enc' (float[d_sae=?])"),
        ({"extra": torch.ones(1)}, "'extra' is not a field; fields are w_enc, b_enc, threshold"),
        ({"b_enc": torch.zeros(5)}, "wants float[d_model d_sae=5], got float32[4 6]: d_sae is 6, but 5 in 'b_enc'"),
        ({"b_enc": torch.zeros(6, dtype=torch.int64)}, "'b_enc' wants float[d_sae], got int64[6]"),
        ({"b_enc": torch.zeros(6, 1)}, "got float32[6 1]"),
    ],
    ids=["missing", "extra", "sizes", "dtype", "rank"],
)
def test_a_file_that_is_no_such_artifact_says_why(path, change, message):
    save_file({key: value for key, value in {**weights(), **change}.items() if value is not None}, path)
    with pytest.raises(InvalidRequest) as caught:
        load_artifact(Sae, path)
    assert message in str(caught.value)
    assert str(caught.value).startswith("file 'sae.safetensors' is no artifact of kind 'sae': ")


def test_metadata_of_another_type_says_so(path):
    save_file(weights(), path, metadata={"top_k": '"five"'})
    with pytest.raises(InvalidRequest, match="wants metadata 'top_k' as int, got 'five'"):
        load_artifact(Sae, path)


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"\xff" * 64], ids=["empty", "pickle", "noise"])
def test_bytes_that_are_no_safetensors_are_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match=r"'sae\.safetensors' is not a readable safetensors file"):
        load_artifact(Sae, path)


def test_a_missing_file_is_refused(path):
    with pytest.raises(InvalidRequest, match="not a readable safetensors file"):
        load_artifact(Sae, path)


def test_an_instance_of_wrong_shapes_is_not_saved(path):
    with pytest.raises(InvalidRequest, match="a Sae is no artifact of kind 'sae'"):
        save_artifact(Sae(w_enc=torch.ones(4, 6), b_enc=torch.zeros(5)), path)
    assert not path.exists()


def test_a_class_that_cannot_be_an_artifact_says_what_to_write():
    class Plain:
        """Not a dataclass."""

    with pytest.raises(DeclarationError, match="is not a frozen dataclass; put @dataclass\\(frozen=True\\) under"):
        artifact("plain")(Plain)

    @dataclass(frozen=True)
    class Listed:
        """A list."""

        schema: str
        weights: list

    with pytest.raises(DeclarationError, match="2 problems") as caught:
        artifact("listed")(Listed)
    assert "field 'weights': list is no port; write weights: Float[Tensor" in str(caught.value)
    assert "or a str, int, float or bool" in str(caught.value)

    @dataclass(frozen=True)
    class Empty:
        """No tensors."""

        note: str

    with pytest.raises(DeclarationError, match="has no tensor"):
        artifact("empty")(Empty)
