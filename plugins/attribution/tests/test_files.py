"""Files: what is written comes back; Inseq's files are read, and files for Inseq are written; nothing is executed."""

import base64
import builtins
import dataclasses
import gzip
import importlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from interpd.errors import CallerError
from interpd_attribution.attribution import Attribution, Step, Token
from interpd_attribution.attributions import Attributions
from interpd_attribution.files.precision import FLOAT8, decode, encode

PRECISIONS = {"float32": 0.0, "float16": 5e-4, "float8": 0.0625}


def same(one, other, rtol=0.0):
    """Whether two results are equal; scores up to ``rtol``."""
    for name in ("source", "target", "dims", "attr_pos_start", "attr_pos_end", "info"):
        assert getattr(one, name) == getattr(other, name), name
    arrays = [(getattr(one, name), getattr(other, name)) for name in ("source_attributions", "target_attributions")]
    for kind in ("step_scores", "sequence_scores"):
        assert getattr(one, kind).keys() == getattr(other, kind).keys()
        arrays += [(values, getattr(other, kind)[name]) for name, values in getattr(one, kind).items()]
    for got, wanted in arrays:
        assert (got is None) == (wanted is None)
        if got is not None:
            atol = rtol * float(np.nanmax(np.abs(wanted), initial=0.0)) / 100 if rtol else 0.0
            np.testing.assert_allclose(got, wanted, rtol=rtol, atol=atol)


@pytest.fixture
def several(make):
    """Three results of different kinds."""
    info = {"attribution_method": "random", "input_texts": ["a", "b", "c"], "seed": 3, "step_scores": ["probability"]}
    return Attributions(
        (make(), make(dims={"d_model": 3}, source=()), make(dims={"layer": 2, "head": 2}, seed=4)), info
    )


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["out.json", "out.json.gz"])
def test_what_is_saved_is_loaded(several, tmp_path, name, precision):
    (path,) = several.save(tmp_path / name, scores_precision=precision)
    loaded = Attributions.load(path)
    assert loaded.info == several.info
    for one, other in zip(loaded, several, strict=True):
        same(one, other, PRECISIONS[precision])
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")


def test_numbers_as_text_are_exact_and_plain_json(several, tmp_path):
    (path,) = several.save(tmp_path / "out.json", ndarray_compact=False)
    content = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert content["sequences"][0]["target_attributions"]["values"][4] is None
    for one, other in zip(Attributions.load(path), several, strict=True):
        same(one, other)


def test_infinite_scores_come_back(make, tmp_path):
    one = make(step_scores={"perplexity": np.array([np.inf, -np.inf, np.nan, 1.0])})
    for options in ({}, {"ndarray_compact": False}, {"scores_precision": "float16"}):
        one.save(tmp_path / "out.json", overwrite=True, **options)
        loaded = Attributions.load(tmp_path / "out.json")[0]
        np.testing.assert_array_equal(loaded.step_scores["perplexity"], one.step_scores["perplexity"])
    with pytest.raises(CallerError, match="does not fit into float8"):
        one.save(tmp_path / "out.json", overwrite=True, scores_precision="float8")


def test_step_attributions_come_back(make, tmp_path):
    step = Step((Token("<pad>", 0),), Token("die", 1), np.ones((4, 3)), np.full((1, 3), 0.5), {"probability": 0.25})
    one = make(dims={"d_model": 3}, step_attributions=(step,))
    one.save(tmp_path / "out.json")
    (loaded,) = Attributions.load(tmp_path / "out.json")[0].step_attributions
    assert (loaded.prefix, loaded.target, loaded.step_scores) == (step.prefix, step.target, step.step_scores)
    np.testing.assert_array_equal(loaded.source_attributions, step.source_attributions)
    np.testing.assert_array_equal(loaded.target_attributions, step.target_attributions)


def test_any_text_of_a_token_comes_back(make, tmp_path):
    """Half a character, as byte-level vocabularies have them, included."""
    texts = ("\ud83d", "\x00", "\u2028", "é", '"\\u0041')
    one = make(source=texts[:4], target=("<pad>", *texts[1:]))
    for options in ({}, {"compress": True}):
        one.save(tmp_path / "out.json", overwrite=True, **options)
        same(Attributions.load(tmp_path / "out.json")[0], one)
    Attributions((one,)).save_inseq(tmp_path / "inseq.json")
    assert (tmp_path / "inseq.json").read_bytes().isascii()
    same(Attributions.load(tmp_path / "inseq.json")[0], dataclasses.replace(one, info=INSEQ_INFO))


INSEQ_INFO = {"input_texts": [], "generated_texts": []}
"""What Inseq expects in every file."""


def test_each_sequence_may_have_its_file(several, tmp_path):
    paths = several.save(tmp_path / "out.json", split_sequences=True)
    assert [path.name for path in paths] == ["out_0.json", "out_1.json", "out_2.json"]
    loaded = Attributions.load(paths[1])
    same(loaded[0], several[1])
    assert loaded.info["input_texts"] == ["b"]
    with pytest.raises(CallerError, match=r"out_0\.json exists; overwrite=True replaces it"):
        several.save(tmp_path / "out.json", split_sequences=True)


def test_one_result_is_saved_for_inseq(make, tmp_path):
    one = make()
    one.save_inseq(tmp_path / "one.json")
    Attributions((one,), one.info).save_inseq(tmp_path / "several.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "several.json").read_bytes()


def test_a_folder_that_is_missing_is_told_of(several, tmp_path):
    for save in (several.save, several.save_inseq, several[0].save):
        with pytest.raises(CallerError, match=r"there is no folder .*nowhere; make it first"):
            save(tmp_path / "nowhere" / "out.json")


def test_a_number_beyond_the_last_one_is_told_of(several):
    with pytest.raises(IndexError, match=f"no attribution 99: there are {len(several)}, from 0 on"):
        several[99]
    assert len(several[5:99]) == max(0, len(several) - 5)


def test_a_file_that_is_there_stays(several, tmp_path):
    path = tmp_path / "out.json"
    path.write_text("mine")
    for save in (several.save, several.save_inseq):
        with pytest.raises(CallerError, match="exists; overwrite=True replaces it"):
            save(path, without_steps=True) if save == several.save_inseq else save(path)
    assert path.read_text() == "mine"
    several.save(path, overwrite=True)
    assert len(Attributions.load(path)) == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 2}, "has version 2 of interpd-attribution, but this package reads version 1"),
        ({"format": "other"}, "holds no attributions"),
        ({"sequences": [{}]}, "is damaged: KeyError: 'step_attributions'"),
        ({"sequences": 3}, "is damaged: TypeError"),
    ],
)
def test_a_file_that_is_not_ours_is_refused(several, tmp_path, change, said):
    path = tmp_path / "out.json"
    several.save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CallerError, match=said):
        Attributions.load(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\x1f\x8bnothing", b"\xff\xfe", b"[1]", b"null"])
def test_what_is_no_file_of_attributions_is_refused(tmp_path, content):
    (tmp_path / "out.json").write_bytes(content)
    with pytest.raises(CallerError, match=r"out\.json"):
        Attributions.load(tmp_path / "out.json")
    with pytest.raises(CallerError, match="no file"):
        Attributions.load(tmp_path / "none.json")


def test_a_tensor_that_lies_is_refused(several, tmp_path):
    path = tmp_path / "out.json"
    several.save(path)
    content = json.loads(path.read_text())
    for text in ("AAAA", "no base64!", base64.b64encode(b"\xff" * 7 + b"\x7f" + b"{}").decode()):
        content["sequences"][0]["source_attributions"]["safetensors"] = text
        path.write_text(json.dumps(content))
        with pytest.raises(CallerError, match="sequence 0, source_attributions holds no tensor"):
            Attributions.load(path)
    content["sequences"][0]["source_attributions"] = {"shape": [4, 4], "values": [1.0] * 15}
    path.write_text(json.dumps(content))
    with pytest.raises(CallerError, match="is damaged: ValueError"):
        Attributions.load(path)


def test_precision_is_of_the_right_numbers():
    assert FLOAT8[[0x38, 0x7E, 0x01, 0xB8]].tolist() == [1.0, 448.0, 2.0**-9, -1.0]
    assert np.isnan(FLOAT8[[0x7F, 0xFF]]).all()
    values = np.array([0.0, 1.0, 1.0625, 1.1875, -1.05, 447.0, np.nan], dtype=np.float32)
    # half way between two numbers the one with an even last bit is taken
    np.testing.assert_array_equal(decode(encode(values, "float8"), "x"), [0, 1, 1, 1.25, -1, 448, np.nan])
    for precision, large in (("float8", 500.0), ("float16", 1e6)):
        with pytest.raises(CallerError, match=f"does not fit into {precision}"):
            encode(np.array([large], dtype=np.float32), precision)


def test_small_scores_survive_few_bits(make, tmp_path):
    """Gradients are often smaller than what 8 bits can hold; the scale brings them into their range."""
    one = make()
    small = dataclasses.replace(one, source_attributions=one.source_attributions * np.float32(1e-12))
    small.save(tmp_path / "out.json", scores_precision="float8")
    same(Attributions.load(tmp_path / "out.json")[0], small, PRECISIONS["float8"])


def test_arguments_that_cannot_be_are_refused(several, tmp_path):
    with pytest.raises(CallerError, match="scores_precision is 'float4', expected one of float32, float16, float8"):
        several.save(tmp_path / "out.json", scores_precision="float4")
    with pytest.raises(CallerError, match="numbers as text are float32"):
        several.save(tmp_path / "out.json", ndarray_compact=False, scores_precision="float8")
    with pytest.raises(CallerError, match="info must hold plain JSON values"):
        Attributions((), {"model": object()}).save(tmp_path / "out.json")
    assert list(tmp_path.iterdir()) == []


def test_files_of_inseq_of_every_kind_are_read(golden_results, tmp_path):
    dims = {
        "granular_encoder_decoder": ("d_model",),
        "coarse_decoder_only": (),
        "multidimensional_encoder_decoder": ("layer", "head"),
        "multidimensional_one_axis": ("layer",),
        "granular_source_only": ("d_model",),
    }
    for name, expected in dims.items():
        (tmp_path / "inseq.json.gz").write_bytes(gzip.compress(json.dumps(golden_results["kinds"][name]).encode()))
        loaded = Attributions.load(tmp_path / "inseq.json.gz")
        assert loaded[0].dims == expected
        assert loaded.info["generation_args"] == {"max_new_tokens": 3}
        assert (loaded[0].source_attributions is None) == name.endswith("decoder_only")
        assert loaded[0].aggregate().dims == ()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_files_for_inseq_come_back_from_it(golden_results, tmp_path, precision):
    """``golden/results/load.py`` loads the same files in Inseq."""
    folder = Path(os.environ.get("INTERPD_ATTRIBUTION_EXPORTED", tmp_path))
    for number, (name, content) in enumerate(golden_results["kinds"].items()):
        (tmp_path / "in.json").write_text(json.dumps(content))
        read = Attributions.load(tmp_path / "in.json")
        packed = number % 2 == 1
        path = folder / f"{name}.{precision}.json{'.gz' if packed else ''}"
        read.save_inseq(path, compress=packed, overwrite=True, scores_precision=precision)
        again = Attributions.load(path)
        assert again.info == read.info
        rtol = {"float32": 0.0, "float16": 1e-3, "float8": 0.0625}[precision]
        for one, other in zip(again, read, strict=True):
            assert (one.dims, one.source, one.target) == (other.dims, other.source, other.target)
            np.testing.assert_allclose(
                one.scores, other.scores, rtol=rtol, atol=2e-3 if precision == "float8" else rtol
            )


def test_what_is_written_for_inseq_is_what_inseq_writes(golden_results, tmp_path):
    """As JSON, with every number bit by bit."""
    for name, content in golden_results["kinds"].items():
        (tmp_path / "in.json").write_text(json.dumps(content))
        Attributions.load(tmp_path / "in.json").save_inseq(tmp_path / "out.json", overwrite=True)
        assert json.loads((tmp_path / "out.json").read_text()) == content, name


def test_rows_behind_the_last_attributed_token_are_left_out_for_inseq(make, tmp_path):
    one = make(target=("a", "b", "c", "d"), start=1)
    cut = dataclasses.replace(
        one,
        attr_pos_end=3,
        source_attributions=one.source_attributions[:, :2],
        target_attributions=one.target_attributions[:, :2],
        step_scores={},
    )
    Attributions((cut,)).save_inseq(tmp_path / "out.json")
    loaded = Attributions.load(tmp_path / "out.json")[0]
    assert loaded.target_attributions.shape == (4, 2)
    assert np.isnan(loaded.target_attributions[3]).all()


def test_steps_of_inseq_are_read_though_inseq_cannot(golden_results):
    """Two batches, the first of two sequences, the second of one."""
    content = golden_results["steps"]
    assert content["attributes"]["step_attributions"]
    loaded = read_content(content)
    assert [len(item.step_attributions) for item in loaded] == [len(item.generated) for item in loaded]
    for item in loaded:
        for number, step in enumerate(item.step_attributions):
            before = item.attr_pos_start + number
            assert step.target.text == item.generated[number].text
            assert [token.text for token in step.prefix][-1] == item.target[before - 1].text
            assert step.step_scores["probability"] == pytest.approx(float(item.step_scores["probability"][number]))
            n_source = len(item.source)
            np.testing.assert_allclose(step.source_attributions[:n_source], item.source_attributions[:, number])


def read_content(content):
    from interpd_attribution.files import inseq_json

    return Attributions(*inseq_json.from_json(content, "inseq.json"))


def test_steps_are_not_written_for_inseq(make, tmp_path):
    one = make(step_attributions=(Step((), Token("x", 1)),))
    with pytest.raises(CallerError, match="Inseq cannot read step attributions back; without_steps=True"):
        Attributions((one,)).save_inseq(tmp_path / "out.json")
    Attributions((one,)).save_inseq(tmp_path / "out.json", without_steps=True)
    assert Attributions.load(tmp_path / "out.json")[0].step_attributions is None


def test_axes_that_inseq_does_not_have_are_refused(make, tmp_path):
    with pytest.raises(CallerError, match="Inseq has no kind of result with the axes layer, d_model"):
        Attributions((make(dims={"layer": 2, "d_model": 3}),)).save_inseq(tmp_path / "out.json")


@pytest.mark.parametrize(
    "place",
    [
        (),
        ("attributes", "sequence_attributions", 0),
        ("attributes", "sequence_attributions", 0, "attributes", "source", 0),
    ],
)
def test_a_class_that_is_not_of_inseq_is_refused_and_never_imported(golden_results, monkeypatch, place):
    content = json.loads(json.dumps(golden_results["kinds"]["coarse_decoder_only"]))
    part = content
    for key in place:
        part = part[key]
    part["__instance_type__"] = ["antigravity_of_mine", "Payload"]
    monkeypatch.setattr(builtins, "__import__", refuse_import_of("antigravity_of_mine"))
    monkeypatch.setattr(importlib, "import_module", pytest.fail)
    with pytest.raises(CallerError, match=r"names the class antigravity_of_mine\.Payload"):
        read_content(content)


def refuse_import_of(name):
    real = __import__

    def imported(module, *args, **kwargs):
        assert not module.startswith(name)
        return real(module, *args, **kwargs)

    return imported


def test_a_known_class_of_a_strange_module_is_refused(golden_results):
    content = json.loads(json.dumps(golden_results["kinds"]["coarse_decoder_only"]))
    content["__instance_type__"][0] = "evil"
    with pytest.raises(CallerError, match=r"names the class evil\.FeatureAttributionOutput"):
        read_content(content)


def test_classes_in_info_are_refused(golden_results):
    content = json.loads(json.dumps(golden_results["kinds"]["coarse_decoder_only"]))
    content["attributes"]["info"]["attribution_args"] = {"layer": {"__instance_type__": ["torch.nn", "Linear"]}}
    with pytest.raises(CallerError, match=r"info of inseq\.json names the class torch\.nn\.Linear"):
        read_content(content)


def test_a_result_without_scores_has_a_file_too(tmp_path):
    one = Attribution((Token("a", 1),), (Token("b", 2),), step_scores={"entropy": np.ones(1)})
    one.save(tmp_path / "out.json")
    same(Attributions.load(tmp_path / "out.json")[0], one)
