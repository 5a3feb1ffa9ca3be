"""Commands that make edits, look at them and put them in force."""

import json

import pytest

from interpd_backpack.commands.arguments import one_after_the_other
from interpd_backpack.edits import AddDelta, Edit, MaskWeights, ProjectOut, Remove, ReplaceAssociation, Scale, Topic
from interpd_backpack.edits import Transplant as Give


@pytest.fixture
def calm(model, tmp_path):
    """The folder of an edit, and the edit."""
    edit = model.backpack.edit(Scale("nurse", 0, 0.2), name="calm")
    return edit.save(tmp_path / "calm"), edit


@pytest.fixture
def swap(model, tmp_path):
    """The folder of another one, and the edit."""
    edit = model.backpack.edit(ReplaceAssociation("nurse", remove="she", add="he"), name="swap")
    return edit.save(tmp_path / "swap"), edit


def test_operations_are_made_in_the_order_of_the_command_line(ask, model, tmp_path):
    folder = tmp_path / "made"
    argv = ("--remove", "cat,dog", "all", "--scale", "nurse", "0,2", "-0.5", "--replace", "doctor", "he", "she")
    argv += ("--transplant", "cat", "dog", "1", "--project-out", "all", "he", "she", "0", "--topic", "music,film", "2")
    argv += ("--topic-annealed", "Paris", "3", "--mask-weights", "nurse", "all", "0.5", "--on-conflict", "allow")
    shown = ask("edit", "new", folder, *argv, "--name", "many")
    expected = model.backpack.edit(
        Remove(("cat", "dog"), "all"),
        Scale("nurse", (0, 2), -0.5),
        ReplaceAssociation("doctor", remove="he", add="she"),
        Give("cat", "dog", 1),
        ProjectOut("all", ("he", "she"), 0),
        Topic(("music", "film"), 2),
        Topic(("Paris",), 3, anneal=True),
        MaskWeights("nurse", "all", 0.5),
        name="many",
        on_conflict="allow",
    )
    assert Edit.load(folder) == expected
    assert expected.describe() in shown
    assert expected.digest in shown


def test_operations_of_a_file_come_first(ask, model, written, tmp_path):
    vector = [0.5] * model.info.sizes["d_model"]
    content = [
        {"operation": "scale", "tokens": ["nurse", {"id": 5, "text": "a"}], "senses": "all", "factor": 2},
        {"operation": "add_delta", "token": 7, "sense": 1, "vector": vector},
    ]
    path = written("edit.json", {"name": "of a file", "operations": content})
    ask("edit", "new", tmp_path / "made", "--operations", path, "--remove", "cat", "0")
    expected = model.backpack.edit(
        Scale(("nurse", 5), "all", 2), AddDelta(7, 1, vector), Remove("cat", 0), name="of a file"
    )
    assert Edit.load(tmp_path / "made") == expected


def test_conflicts_are_told_or_refused(ask, line, tmp_path):
    argv = ("--scale", "cat", "0", "2", "--transplant", "cat", "dog", "0")
    ask("edit", "new", tmp_path / "told", *argv)
    shown = line("edit", "show", tmp_path / "told").out
    assert shown.startswith("told:")
    assert shown.count("their order matters") == 1
    found = line("edit", "new", tmp_path / "refused", *argv, "--on-conflict", "refuse")
    assert (found.code, (tmp_path / "refused").exists()) == (3, False)
    found = line("edit", "new", tmp_path / "told", *argv)
    assert found.code == 2
    assert "--overwrite replaces it" in found.err
    again = line("edit", "new", tmp_path / "told", *argv, "--overwrite")
    assert again.code == 0
    assert "conflict: operations 0 and 1 meet" in again.err


def test_edits_whose_order_matters_are_told_once(ask, line, calm, tmp_path, capsys):
    ask("edit", "new", tmp_path / "copied", "--transplant", "nurse", "dog", "all")
    combined = line("edit", "combine", tmp_path / "both", calm[0], tmp_path / "copied")
    assert combined.code == 0
    assert combined.err.count("their order matters") == 1
    both = one_after_the_other([calm[1], Edit.load(tmp_path / "copied")])
    assert both == Edit.load(tmp_path / "both")
    assert capsys.readouterr().err.count("interpd: conflict: the edit 'calm + copied': operations 0 and 1 meet") == 1


def test_edits_are_shown_compared_combined_and_inverted_without_a_daemon(line, calm, swap, tmp_path):
    shown = json.loads(line("edit", "show", calm[0], "--json").out)
    assert (shown["digest"], shown["conflicts"]) == (calm[1].digest, [])
    made = line("edit", "combine", tmp_path / "both", calm[0], swap[0], "--name", "both")
    assert made.code == 0
    assert Edit.load(tmp_path / "both") == (calm[1] + swap[1]).renamed("both")
    different = line("edit", "diff", calm[0], tmp_path / "both").out.splitlines()
    assert [row[0] for row in different] == ["=", "+"]
    assert json.loads(line("edit", "diff", calm[0], calm[0], "--json").out)["same"]
    assert line("edit", "invert", tmp_path / "back", calm[0]).code == 0
    assert Edit.load(tmp_path / "back") == calm[1].inverse()


@pytest.mark.slow
def test_an_edit_is_tried_on_senses_and_on_predictions(ask, model, calm):
    folder, edit = calm
    senses = ask("edit", "try", folder, "--top", 2, "--words", "nurse", "cat", "--json")
    assert senses == json.loads(model.backpack.dry_run(edit, words=["nurse", "cat"], top=2).to_json())
    found = ask("edit", "try", folder, "The nurse said", "--target", "she", "--json")
    expected = model.backpack.effects(["The nurse said"], edit, targets=["she"])
    assert found["logits_after"] == pytest.approx(expected.logits_after)


def test_effects_are_of_each_edit(ask, model, calm, swap, records):
    texts = records("texts.jsonl", [{"text": "The doctor said"}])
    argv = ("The nurse said", "--texts", texts, "--edit", calm[0], "--edit", swap[0], "--target", "she", "he")
    found = ask("effects", *argv, "--position", "all", "--top", 3, "--json")
    prompts, edits = ["The nurse said", "The doctor said"], [calm[1], swap[1]]
    expected = model.backpack.effects(prompts, edits, targets=["she", "he"], position="all", top=3)
    assert found == json.loads(expected.to_json())


@pytest.mark.slow
def test_edits_are_in_force_one_after_the_other_in_contributions(ask, model, calm, swap):
    found = ask("contributions", "The nurse said", "--target", "she", "--edit", calm[0], "--edit", swap[0], "--json")
    expected = model.backpack.contributions("The nurse said", "she", under=calm[1] + swap[1])
    assert found == json.loads(expected.to_json())


def test_variants_are_side_by_side(ask, model, calm, swap, tmp_path):
    drawn = ("--do-sample", "--temperature", "1.5", "--top-p", "0.9", "--top-k", "20", "--seed", "3", "--ignore-eos")
    edits = ("--edit", calm[0], "--edit", swap[0])
    page = tmp_path / "page.html"
    found = ask("generate", "The nurse", "A cat", *edits, "--max-new-tokens", 4, *drawn, "--save", page, "--json")
    options = {"do_sample": True, "temperature": 1.5, "top_p": 0.9, "top_k": 20, "seed": 3, "ignore_eos": True}
    prompts, variants = ["The nurse", "A cat"], [None, calm[1], swap[1]]
    expected = model.backpack.generate(prompts, variants, max_new_tokens=4, **options)
    assert found["names"] == ["unedited", "calm", "swap"]
    assert found["continuations"] == json.loads(expected.to_json())["continuations"]
    assert "calm" in page.read_text()


@pytest.mark.slow
def test_a_single_text_appears_as_it_comes(ask, model, calm, swap):
    argv = ("--edit", calm[0], "--edit", swap[0], "--combined", "--only-edits", "--max-new-tokens", 3, "--ignore-eos")
    expected = model.backpack.generate("The nurse", [calm[1] + swap[1]], max_new_tokens=3, ignore_eos=True)
    assert ask("generate", "The nurse", *argv) == f"The nurse{expected['calm + swap'].text}\n"
    assert "unedited" in ask("generate", "The nurse", "--edit", calm[0], "--max-new-tokens", 1)


WRONG = [
    (("generate", "a", "--seed", "1"), "--seed is of texts that are drawn at random: --do-sample"),
    (("generate", "a", "--only-edits"), "there is no --edit"),
    (("generate", "a", ""), "prompt number 2 of 2 is empty"),
    (("generate", "a", "--max-new-tokens", "0"), "expected a whole number, 1 or more"),
    (("generate", "a", "--top-p", "2"), "expected a number, 0 or more, 1 or less"),
    (("edit", "show", "nowhere"), "no edit can be read from 'nowhere'"),
    (("edit", "new", "x"), "say what the edit does"),
    (("edit", "new", "x", "--scale", "a", "0", "much"), "--scale a 0 much: expected a number, got 'much'"),
    (("edit", "new", "x", "--remove", "a", "first"), "senses are all or numbers from 0"),
    (("edit", "new", "x", "--remove", ",", "0"), "',' names no word"),
    (("edit", "new", "x", "--topic", "a", "9"), "strength is 0, 1, 2, 3"),
    (("edit", "new", "x", "--operations", "nowhere.json"), "nowhere.json' cannot be read"),
]


@pytest.mark.parametrize(("argv", "said"), WRONG)
def test_a_wrong_command_line_is_said_before_anything_runs(line, argv, said):
    found = line(*argv)
    assert (found.code, found.out) == (2, "")
    assert said in found.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[", "is no JSON"),
        (3, "expected a list of operations, or an object"),
        ({"operations": [], "base": 1}, "got 'base', too"),
        ([{"operation": "cut"}], "operation 0: expected an object with an 'operation' of scale, remove"),
        ([{"operation": "remove", "tokens": ["a"], "sense": 0}], "remove has no 'sense'; it has senses, tokens"),
        ([{"operation": "remove", "tokens": ["a"]}], "missing 1 required positional argument: 'senses'"),
        ([{"operation": "set", "token": {"vector": 0}, "sense": 0, "vector": [1]}], "a token is a word, an id or"),
    ],
)
def test_a_file_of_operations_that_cannot_be_is_said(line, written, tmp_path, content, said):
    found = line("edit", "new", tmp_path / "x", "--operations", written("operations.json", content))
    assert found.code == 2
    assert said in found.err


def test_two_edits_of_one_name_are_refused(line, calm):
    found = line("generate", "a", "--edit", calm[0], "--edit", calm[0])
    assert found.code == 2
    assert "two edits are called 'calm'" in found.err
