"""Commands that read and explain: what comes out is what ``model.backpack`` gives."""

import json

import pytest


def document(result):
    return json.loads(result.to_json())


def test_senses_of_words_are_those_of_the_model(ask, model):
    found = ask("senses", "nurse", "id:8", "--senses", 0, 2, "--top", 3, "--rank-of", "she", "--by", "cosine", "--json")
    expected = model.backpack.senses(["nurse", 8], senses=(0, 2), top=3, rank_of=["she"], by="cosine")
    assert found == document(expected)


@pytest.mark.slow
def test_senses_that_say_a_word_and_senses_like_one(ask, model):
    reverse = ask("senses", "she", "--reverse", "--against", "he", "--scaled", "--top", 2, "--json")
    assert reverse == document(model.backpack.reverse("she", against="he", scaled=True, top=2))
    nearest = ask("senses", "nurse", "--nearest", 1, "--top", 2, "--json")
    assert nearest == document(model.backpack.nearest("nurse", 1, top=2))


@pytest.mark.slow
def test_pairs_are_given_as_words_and_as_files(ask, model, written):
    expected = document(model.backpack.similarity([("nurse", "doctor"), ("cat", "dog")]))
    assert ask("similarity", "nurse", "doctor", "cat", "dog", "--json") == expected
    plain = written("plain.txt", "# pairs\nnurse doctor\ncat,dog\n")
    assert ask("similarity", "--file", plain, "--json") == expected
    rated = written("rated.txt", "word1\tword2\tscore\nnurse\tdoctor\t7\ncat\tdog\t5\n")
    assert ask("similarity", "--file", rated, "--json") == expected


@pytest.mark.slow
def test_specialisation_is_of_texts_or_of_words(ask, model, records):
    texts = records("texts.jsonl", [{"text": "The nurse said that she was tired"}])
    found = ask("specialisation", "The cat sat", "--texts", texts, "--json")
    assert found == document(model.backpack.specialisation(["The cat sat", "The nurse said that she was tired"]))
    found = ask("specialisation", "--words", "cat", "dog", "--top", 2, "--json")
    assert found == document(model.backpack.specialisation(words=["cat", "dog"], top=2))


def test_contributions_are_of_one_text_or_of_many(ask, model):
    one = ask("contributions", "The nurse said", "--target", "she", "--contrast", "he", "--position", -2, "--json")
    assert one == document(model.backpack.contributions("The nurse said", "she", contrast="he", position=-2))
    over = ask("contributions", "The nurse said", "The cat sat", "--position", "all", "--json")
    assert over == document(model.backpack.contributions_over(["The nurse said", "The cat sat"], position="all"))


@pytest.mark.slow
def test_sums_and_strongest_parts_are_shown(ask, model):
    found = model.backpack.contributions("The nurse said", "she")
    part = found.top(1)[0]
    rows = ask("contributions", "The nurse said", "--target", "she", "--by", "part", "--top", 1).splitlines()
    assert rows[1].split() == [
        str(part.position), *repr(part.token).split(), str(part.sense), f"{part.contribution:.4g}",
        f"{part.weight:.4g}", f"{part.says:.4g}",
    ]  # fmt: skip
    assert "residual" in rows[-1]
    by_sense = ask("contributions", "The nurse said", "--target", "she", "--by", "sense").splitlines()[1:5]
    sums = {sense: f"{value:.4g}" for sense, value in enumerate(found.by_sense())}
    assert {int(row.split()[0]): row.split()[1] for row in by_sense} == sums
    assert len(ask("contributions", "The nurse said", "a cat", "--by", "token").splitlines()) > 4


def test_results_are_saved_whole_and_are_not_replaced_unasked(ask, line, model, tmp_path):
    page, numbers = tmp_path / "senses.html", tmp_path / "senses.json"
    shown = ask("senses", "nurse", "--save", page)
    assert "nurse" in shown
    assert page.read_text().startswith("<!doctype html>")
    ask("senses", "nurse", "--save", numbers)
    assert json.loads(numbers.read_text()) == document(model.backpack.senses("nurse"))
    before = numbers.read_text()
    refused = line("senses", "cat", "--save", numbers)
    assert (refused.code, numbers.read_text()) == (2, before)
    assert "--overwrite replaces it; nothing was run" in refused.err
    ask("senses", "cat", "--save", numbers, "--overwrite")
    assert numbers.read_text() != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["senses.html", "senses.json"]


WRONG = [
    (("senses",), "required: WORD"),
    (("senses", "a", "b", "--reverse"), "--reverse is about one WORD, got 2"),
    (("senses", "a", "--reverse", "--rank-of", "b"), "--rank-of is of the senses of a word"),
    (("senses", "a", "--against", "b"), "--against goes with --reverse"),
    (("senses", "id:x"), "expected a number behind id:"),
    (("senses", "a", "--save", "out.csv"), "expected a name that ends with .html or .json"),
    (("senses", "a", "--save", "no/such/out.json"), "there is no folder"),
    (("senses", "a", "--device", "cpu"), "--device is for loading a model"),
    (("similarity", "a"), "pairs are two words each, got 1 words"),
    (("similarity",), "say which words"),
    (("similarity", "--file", "none.txt"), "'none.txt' cannot be read"),
    (("specialisation", ""), "text number 1 of 1 is empty"),
    (("contributions",), "say which prediction"),
    (("contributions", "a", "--quantity", "difference"), "--contrast WORD"),
    (("contributions", "a", "--contrast", "b", "--quantity", "logit"), "not of --quantity logit"),
    (("contributions", "a", "--contrast", "b"), "--contrast is the other word of a difference; the one is --target"),
    (("contributions", "a", "b", "--contrast", "c"), "the one is --target WORD"),
    (("contributions", __file__), f"is a file, expected a text: --texts {__file__}"),
    (("specialisation", __file__), f"is a file, expected a text: --texts {__file__}"),
    (("contributions", "a", "--position", "before_target"), "--target WORD"),
    (("contributions", "a", "--position", "end"), "expected a number or one of all, before_target"),
    (("contributions", "a", "--edit", "nowhere"), "no edit can be read from 'nowhere'"),
    (("effects", "a"), "say which edit"),
    (("effects", "--edit", "nowhere"), "say which predictions"),
]


@pytest.mark.parametrize(("argv", "said"), WRONG)
def test_a_wrong_command_line_is_said_before_anything_runs(line, argv, said):
    found = line(*argv)
    assert found.code == 2
    assert said in found.err
    assert not found.out


@pytest.mark.usefixtures("ask")
def test_what_the_model_refuses_is_refused(line):
    found = line("senses", "nurses", "--json")
    assert (found.code, found.out) == (3, "")
    assert "the word ' nurses' is 2 tokens" in json.loads(found.err)["message"]
