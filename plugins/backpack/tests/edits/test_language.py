"""Operations and edits as data: what is refused, files, digests, differences, inverses."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from interpd.errors import CallerError
from interpd_backpack.edits import (
    AddDelta,
    Edit,
    Fingerprint,
    MaskWeights,
    ProjectOut,
    Remove,
    ReplaceAssociation,
    Scale,
    Set,
    Token,
    Topic,
    Transplant,
)

BASE = Fingerprint("sha256:weights", 40, 4, 3)
NURSE, DOCTOR, HE, SHE = Token(7, " nurse"), Token(8, " doctor"), Token(9, " he"), Token(10, " she")
VECTOR = (1.0, -2.0, 1 / 3)

ONE_OF_EACH = (
    Scale((NURSE, DOCTOR), 2, 0.1),
    Remove("all", (1, 3)),
    Topic((HE, SHE), strength=(2.1, 1.8, 1.5, 1), formula="paper"),
    ReplaceAssociation(NURSE, SHE, HE),
    Transplant(NURSE, DOCTOR, (0, 2)),
    ProjectOut("all", (SHE, HE), 1, share=0.5),
    ProjectOut(NURSE, VECTOR),
    AddDelta(NURSE, 3, VECTOR),
    Set(DOCTOR, 0, VECTOR),
    MaskWeights(NURSE, 1, 0.5, negative_only=0.02),
    MaskWeights(positions=(2, 5), factor=0.0),
)


@pytest.fixture
def edit():
    return Edit(ONE_OF_EACH, "one of each", BASE)


def test_an_edit_comes_back_from_its_files(edit, tmp_path):
    loaded = Edit.load(edit.save(tmp_path / "edit"))
    assert loaded == edit
    assert loaded.digest == edit.digest
    assert loaded.operations[7].vector.tolist() == list(VECTOR)
    assert [token.text for token in loaded.tokens] == [" nurse", " doctor"]


def test_numbers_of_numpy_are_written_as_numbers(tmp_path):
    tokens, senses = np.array([7, 9]), np.array([0, 2])
    some = Edit([Scale(tokens, senses, np.float32(0.5)), Remove(Token(tokens[0]), senses[1])], "numpy", BASE)
    assert Edit.load(some.save(tmp_path)).operations == (Scale((7, 9), (0, 2), 0.5), Remove(7, 2))


def test_an_edit_without_vectors_comes_back(tmp_path):
    plain = Edit([Scale(NURSE, "all", 0)], "plain", BASE)
    assert Edit.load(plain.save(tmp_path)) == plain


def rewritten(folder, change):
    content = json.loads((folder / "edit.json").read_text())
    change(content)
    (folder / "edit.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["operations"][0].update(factor=0.2),
        lambda content: content["operations"].reverse(),
        lambda content: content.update(name="another"),
        lambda content: content["base"].update(revision="sha256:others"),
        lambda content: content.update(extra=1),
        lambda content: content.update(digest="sha256:0"),
        lambda content: content.pop("digest"),
    ],
)
def test_files_that_were_changed_are_refused(edit, tmp_path, change):
    rewritten(edit.save(tmp_path), change)
    with pytest.raises(CallerError, match=r"was changed or is damaged: its digest is sha256:\w+, it says"):
        Edit.load(tmp_path)


def test_vectors_that_were_changed_are_refused(edit, tmp_path):
    file = edit.save(tmp_path) / "edit.safetensors"
    vectors = load_file(file)["vectors"]
    vectors[1, 0] += 1e-15
    save_file({"vectors": vectors}, file)
    with pytest.raises(CallerError, match="was changed or is damaged"):
        Edit.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(format="pickle"), "is no edit: expected 'format'"),
        (lambda content: content.update(version=2), "has version 2 of interpd-backpack-edit"),
    ],
)
def test_other_files_are_refused(edit, tmp_path, change, message):
    rewritten(edit.save(tmp_path), change)
    with pytest.raises(CallerError, match=message):
        Edit.load(tmp_path)


@pytest.mark.parametrize(("content", "got"), [("{}", "got none"), ("[]", "got a list"), ('{"format": 3}', "got 3")])
def test_json_of_something_else_is_told_before_the_other_file_is_missed(tmp_path, content, got):
    (tmp_path / "edit.json").write_text(content)
    with pytest.raises(CallerError, match=f"edit.json in .* is no edit: expected 'format'.*{got}$"):
        Edit.load(tmp_path)


def test_what_is_no_folder_of_an_edit_is_refused(tmp_path):
    with pytest.raises(CallerError, match="no edit can be read from"):
        Edit.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scale((), 0, 1), "scale: tokens is empty"),
        (lambda: Scale(None, 0, 1), r"scale: tokens is a word or a token .*, got None"),
        (lambda: Edit([Scale("nurse", 0, 1)], "a", BASE), "the word 'nurse' is no token yet; model.backpack.edit"),
        (lambda: Edit([ProjectOut("all", ("she", HE))], "a", BASE), "the word 'she' is no token yet"),
        (lambda: Scale(["nurse", 1.5], 0, 1), r"is a word or a token \(Token\(id, text\), or an id from 0\), got 1.5"),
        (lambda: Scale(-1, 0, 1), "got -1"),
        (lambda: Scale(NURSE, -1, 1), "scale: senses is 'all' or sense indices from 0, got -1"),
        (lambda: Scale(NURSE, 0, float("nan")), "scale: factor is nan, expected a finite number"),
        (lambda: Scale(NURSE, 0, True), "scale: factor is a number, got True"),
        (lambda: Topic(HE, strength=4), r"topic: strength is 0, 1, 2, 3 or a tuple of factors, got 4"),
        (lambda: Topic(HE, strength=(2, 1)), "topic: 2 factors for 3 quantiles"),
        (lambda: Topic(HE, quantiles=(0.5, 0.9), strength=(1, 1, 1)), "expected falling numbers"),
        (lambda: Topic(HE, formula="both"), "topic: formula is 'both'"),
        (lambda: ReplaceAssociation(NURSE, HE, HE), r"' he' \(9\) would be replaced by itself"),
        (lambda: Transplant(NURSE, NURSE, 0), "would be given its own senses"),
        (lambda: ProjectOut(NURSE, (0.0, 0.0)), "direction is zero"),
        (lambda: ProjectOut(NURSE, (HE, HE)), "minus itself"),
        (lambda: ProjectOut(NURSE, (HE, SHE, HE)), "a vector or two tokens, got 3"),
        (lambda: AddDelta(NURSE, (0, 1), VECTOR), "add_delta: sense is one sense"),
        (lambda: Set(NURSE, 0, [[1.0]]), r"set: vector has shape \[1, 1\], expected \[d_model\]"),
        (lambda: Set(NURSE, 0, [np.inf]), "not finite"),
        (lambda: MaskWeights(), "say either tokens or positions"),
        (lambda: MaskWeights(NURSE, positions=(1,)), "say either tokens or positions"),
        (lambda: MaskWeights(NURSE, factor=0, negative_only=0.02), "factor is 0, expected more than 0"),
        (lambda: MaskWeights("all", factor=2, negative_only=0.02), "negative_only is about named tokens"),
        (lambda: Edit((), "nothing", BASE), "an edit without operations"),
        (lambda: Edit([Scale(NURSE, 0, 1)], " ", BASE), "needs a name"),
        (lambda: Edit([Scale(40, 0, 1)], "a", BASE), "token 40 is not in the vocabulary of 40 tokens"),
        (lambda: Edit([Scale(NURSE, 4, 1)], "a", BASE), "no sense 4: the model has 4, from 0"),
        (lambda: Edit([Set(NURSE, 0, [1.0])], "a", BASE), r"the vector has shape \[1\], expected \[3\]"),
        (lambda: Edit([lambda: 0], "a", BASE), "expected one of interpd_backpack.edits"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(CallerError, match=message):
        make()


def test_edits_are_put_one_behind_the_other(edit):
    more = edit + Edit([Scale(HE, 0, 2)], "more", BASE)
    assert more.operations == (*ONE_OF_EACH, Scale(HE, 0, 2))
    assert more.name == "one of each + more"


def test_edits_of_different_models_are_not_put_together(edit):
    other = Edit([Scale(HE, 0, 2)], "more", Fingerprint("sha256:others", 40, 4, 3))
    with pytest.raises(CallerError, match="of different models: its revision is"):
        edit + other


def test_a_model_of_unknown_revision_has_to_have_the_sizes():
    unknown = Fingerprint("", 40, 4, 3)
    assert not unknown.problem(BASE)
    assert BASE.problem(unknown) == "its revision is sha256:weights, the model's is not known"
    assert BASE.problem(Fingerprint("sha256:weights", 40, 5, 3)) == "its number of senses is 4, the model's is 5"


def test_the_words_of_tokens_do_not_matter_for_equality():
    assert Scale(Token(7), 2, 0.1) == Scale(7, (2,), 0.1)
    assert Scale(7, 2, 0.1) != Remove(7, 2)
    assert AddDelta(7, 1, VECTOR) == AddDelta(7, 1, np.array(VECTOR))


def test_vectors_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        AddDelta(7, 1, VECTOR).vector[0] = 1


def test_a_difference_names_what_came_and_went():
    first = Edit([Scale(NURSE, 0, 2), Remove(HE, 1)], "first", BASE)
    second = Edit([Scale(NURSE, 0, 2), Remove(HE, 2)], "second", BASE)
    found = first.diff(second)
    assert (found.removed, found.added) == ((Remove(HE, 1),), (Remove(HE, 2),))
    assert str(found).splitlines() == [
        "= scale sense 0 of ' nurse' (7) by 2",
        "- remove sense 1 of ' he' (9)",
        "+ remove sense 2 of ' he' (9)",
    ]
    assert not first.diff(first.renamed("third"))
    assert first.diff(Edit(first.operations[::-1], "turned", BASE)).is_reordered


def test_inverses_are_reversed():
    there = Edit([Scale(NURSE, 0, 4), AddDelta(NURSE, 0, VECTOR), ProjectOut(NURSE, VECTOR, share=0.5)], "there", BASE)
    back = there.inverse()
    assert [one.kind for one in back.operations] == ["project_out", "add_delta", "scale"]
    assert (back.operations[0].share, back.operations[2].factor) == (-1.0, 0.25)


@pytest.mark.parametrize("one", [Remove(NURSE, 0), Set(NURSE, 0, VECTOR), Transplant(NURSE, HE, 0), Scale(7, 0, 0)])
def test_what_forgets_has_no_inverse(one):
    with pytest.raises(CallerError, match="has no inverse: operation 0"):
        Edit([one], "there", BASE).inverse()


def test_an_edit_says_what_it_does(edit):
    lines = edit.describe().splitlines()
    assert lines[1] == "  0. scale sense 2 of ' nurse' (7), ' doctor' (8) by 0.1"
    assert lines[6] == "  5. project 0.5 of ' she' (10) - ' he' (9) out of sense 1 of every token"
    assert len(lines) == 1 + len(ONE_OF_EACH)
