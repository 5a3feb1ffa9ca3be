"""Which tokenizer a folder means: one, a pair, or nothing that is clear."""

import shutil

import pytest

from interpd.config import ModelSpec
from interpd.errors import FeatureUnsupported, InvalidRequest
from interpd.testing.tiny_models import save_tiny, tiny_tokenizer
from interpd.worker.checkpoint import folder_revision
from interpd.worker.loading import load_model
from interpd.worker.tokenizer_files import load_tokenizers


@pytest.fixture
def folder(tmp_path):
    """A folder with a tokenizer for each side."""
    tiny_tokenizer(with_eos=True).save_pretrained(tmp_path / "tokenizer-src")
    tiny_tokenizer(with_bos=True).save_pretrained(tmp_path / "tokenizer-tgt")
    return tmp_path


def test_a_pair_is_one_tokenizer_for_each_side(folder):
    found = load_tokenizers(folder, has_encoder=True)
    assert found.own("a")["input_ids"][-1] == 1
    assert found.target("a")["input_ids"][0] == 0
    assert found.problem == ""


def test_one_tokenizer_serves_both_sides(tmp_path):
    tiny_tokenizer().save_pretrained(tmp_path)
    assert load_tokenizers(tmp_path, has_encoder=True).target is None


def test_a_kind_of_model_that_only_a_plugin_knows_is_no_reason_to_warn(tmp_path, caplog):
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "of_a_plugin"}')
    found = load_tokenizers(tmp_path, has_encoder=False)
    assert found.own.get_vocab() == tokenizer.get_vocab()
    assert not caplog.records


def test_a_folder_without_any_is_served_for_ids(tmp_path):
    found = load_tokenizers(tmp_path, has_encoder=True)
    assert (found.own, found.problem) == (None, "the model's folder holds no tokenizer")


@pytest.mark.parametrize("missing", ["tokenizer-src", "tokenizer-tgt"])
def test_half_a_pair_is_refused(folder, missing):
    shutil.rmtree(folder / missing)
    with pytest.raises(InvalidRequest, match=f"but no '{missing}': both sides need a tokenizer"):
        load_tokenizers(folder, has_encoder=True)


def test_a_pair_beside_another_tokenizer_is_refused(folder):
    tiny_tokenizer().save_pretrained(folder)
    with pytest.raises(InvalidRequest, match="as well as 'tokenizer-src' and 'tokenizer-tgt', so it is not clear"):
        load_tokenizers(folder, has_encoder=True)


def test_a_pair_in_the_folder_of_a_decoder_only_model_is_refused(folder):
    with pytest.raises(InvalidRequest, match="holds 'tokenizer-tgt', but the model has no two sides"):
        load_tokenizers(folder, has_encoder=False)


def test_a_pair_of_sentencepiece_files_is_not_taken_for_a_tokenizer(tmp_path):
    for name in ("source.spm", "target.spm", "vocab.json"):
        (tmp_path / name).write_bytes(b"{}")
    found = load_tokenizers(tmp_path, has_encoder=True)
    assert found.own is None
    assert "convert each to a fast tokenizer in 'tokenizer-src' and 'tokenizer-tgt'" in found.problem


def test_code_that_one_of_a_pair_asks_for_is_refused(tmp_path):
    folder = save_tiny(tmp_path / "model", "bart")
    (folder / "tokenizer-tgt").mkdir()
    (folder / "tokenizer-tgt" / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["x.Y", null]}}')
    with pytest.raises(FeatureUnsupported, match=r"tokenizer-tgt/tokenizer_config\.json of .* asks for code"):
        load_model(ModelSpec(str(folder)))


def test_the_pair_is_part_of_what_identifies_a_folder(tmp_path):
    folder = save_tiny(tmp_path / "model", "bart")
    before = folder_revision(folder)
    tiny_tokenizer().save_pretrained(folder / "tokenizer-src")
    assert folder_revision(folder) != before


@pytest.mark.parametrize("architecture", ["t5", "marian"])
def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path, architecture):
    import torch

    from interpd.testing.tiny_models import tiny_model

    tiny = tiny_model(architecture, tmp_path / "model")
    loaded = load_model(ModelSpec(str(tmp_path / "model"), device="cpu"))
    ids = {"input_ids": torch.tensor([[5, 6, 7]]), "decoder_input_ids": torch.tensor([[2, 8]])}
    assert torch.allclose(loaded.model(**ids).logits, tiny.model(**ids).logits, atol=1e-5)
    assert loaded.target_tokenizer is None
