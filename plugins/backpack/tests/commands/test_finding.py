"""Commands that find edits and measure them."""

import json

import pytest

from interpd_backpack.edits import Edit, Scale
from interpd_backpack.evaluation import Criterion

JOBS = ("nurse", "doctor", "teacher")
PROMPTS = ("The {} said that", "a {} was tired and")


@pytest.fixture
def words(written):
    """A file of words, one of them of two tokens."""
    return written("words.txt", "# jobs\n" + "\n".join([*JOBS, "nurses"]) + "\n")


@pytest.fixture
def prompts(written):
    """A file of prompts."""
    return written("prompts.txt", "\n".join(PROMPTS))


@pytest.fixture
def texts(records):
    """A file of texts."""
    return records("texts.jsonl", [{"text": "The cat sat and the dog ran"}, {"text": "The doctor was happy"}])


@pytest.fixture
def examples(records):
    """A file of canonical examples."""
    rows = [("The nurse said that", " he"), ("The teacher said that", " she")]
    return records("examples.jsonl", [{"prefix": prefix, "suffix": suffix} for prefix, suffix in rows])


@pytest.mark.usefixtures("ask")
def test_senses_are_ranked_and_words_that_are_left_out_are_named(line, model, words, prompts):
    found = line("bias", "--words", words, "--prompts", prompts, "--pair", "his", "her", "--factor", 0.5, "--json")
    assert found.err == "interpd: 'nurses' is left out: tokens ' nurse', 's'\n"
    expected = model.backpack.rank_bias(JOBS, PROMPTS, ("his", "her"), factor=0.5)
    assert json.loads(found.out) == json.loads(expected.to_json())


def test_the_least_bias_is_an_edit(ask, model, words, prompts, tmp_path):
    folder = tmp_path / "less"
    argv = ("--words", words, "--prompts", prompts, "--pieces", "first", "--optimise", "--sense", 1, "--penalty", 0)
    found = ask("bias", *argv, "--bounds", 0, 2, "--save-edit", folder, "--json")
    expected = model.backpack.optimal_scale(
        (*JOBS, "nurses"), PROMPTS, sense=1, penalty=0.0, bounds=(0.0, 2.0), pieces="first"
    )
    assert found == json.loads(expected.to_json())
    assert Edit.load(folder) == expected.edit


def test_factors_that_are_all_1_are_no_edit(ask, words, prompts, tmp_path):
    argv = ("--words", words, "--prompts", prompts, "--pieces", "first", "--optimise", "--sense", 1)
    shown = ask("bias", *argv, "--penalty", 1e6, "--save-edit", tmp_path / "none", code=1)
    assert "every factor is 1" in shown
    assert not (tmp_path / "none").exists()


@pytest.mark.usefixtures("ask")
def test_what_topics_cost_and_what_failed_is_said_on_standard_error(line, written):
    argv = ("--suite", "topics", "similarity", "--bags", written("bags.json", {"pets": ["cat"]}))
    few = written("pairs.txt", "cat\tdog\t3\n")
    found = line("evaluate", *argv, "--pairs", few, "--set", "n_samples=2", "--set", "max_new_tokens=3", "--json")
    assert found.code == 1
    assert found.err.startswith("interpd: topics: 24 tokens of 8 texts\n")
    assert "interpd: similarity could not be measured: pairs: 1 of 1 pairs are left" in found.err


@pytest.mark.slow
def test_jobs_of_a_file_have_prompts_of_their_own(ask, model, written):
    content = {"professions": JOBS, "prompts": PROMPTS[:1], "train_prompts": PROMPTS[1:]}
    found = ask("bias", "--jobs", written("jobs.json", content), "--optimise", "--json")
    expected = model.backpack.optimal_scale(JOBS, PROMPTS[1:], test_prompts=PROMPTS[:1])
    assert found == json.loads(expected.to_json())


@pytest.mark.slow
def test_what_was_asked_for_is_measured_and_written(ask, model, texts, written, tmp_path):
    folder = model.backpack.edit(Scale("cat", 0, 0.5), name="less cat").save(tmp_path / "less")
    control = written("control.txt", "The dog sat\n")
    argv = ("--texts", texts, "--prompts", control, "--edit", folder, "--suite", "perplexity", "collateral")
    found = ask("evaluate", *argv, "--set", "window=8", "--out", tmp_path / "report", "--json")
    expected = model.backpack.evaluate(
        ["perplexity", "collateral"], texts=[texts], prompts=["The dog sat"], edit=Edit.load(folder), window=8
    )
    assert found["parts"] == expected.to_dict()["parts"]
    assert found["provenance"]["edit"] == "less cat"
    assert json.loads((tmp_path / "report" / "numbers.json").read_text()) == found
    assert (tmp_path / "report" / "report.html").stat().st_mode & 0o044


@pytest.mark.slow
def test_a_part_that_cannot_be_measured_is_told_by_the_exit_code(ask, texts, written):
    jobs = written("jobs.json", {"professions": ["robots"], "prompts": PROMPTS, "train_prompts": PROMPTS})
    shown = ask("evaluate", "--suite", "bias", "perplexity", "--jobs", jobs, "--texts", texts, code=1)
    assert "bias could not be measured: no profession is a single token" in " ".join(shown.split())


@pytest.mark.slow
def test_an_edit_is_learned_from_examples(ask, model, examples, texts, tmp_path):
    folder = tmp_path / "learned"
    argv = (examples, "--task", "say", "--below", 1.5, "--background", texts, "--n-epochs", 2, "--radius", 0.05)
    found = ask("finetune", *argv, "--senses-per-example", 3, "--name", "mine", "--save-edit", folder, "--json")
    settings = {"n_epochs": 2, "radius": 0.05, "senses_per_example": 3, "name": "mine"}
    expected = model.backpack.finetune(examples, Criterion("say", 1.5), background=texts, **settings)
    assert found == json.loads(expected.to_json())
    assert Edit.load(folder) == expected.edit


def test_a_background_of_plain_text_is_read(line, examples, written):
    background = written("background.txt", "The cat sat.\nThe dog ran.\n")
    found = line("finetune", examples, "--task", "no such", "--background", background, "--held-out", background)
    # what comes after the files is what is wrong
    assert (found.code, "there is no task 'no such'" in found.err) == (2, True)


def test_where_nothing_is_learned_there_is_no_edit(ask, examples, records, tmp_path):
    same = records("same.jsonl", [{"text": "The nurse said that she was"}, {"text": "The teacher said that he was"}])
    argv = (examples, "--task", "country", "--background", same, "--n-epochs", 1, "--radius", 0, "--no-line-search")
    shown = ask("finetune", *argv, "--learning-rate", 99, "--save-edit", tmp_path / "none", code=1)
    assert "nothing is added" in shown
    assert not (tmp_path / "none").exists()


WRONG = [
    (("bias", "--sense", "1"), "--sense goes with --optimise"),
    (("bias", "--optimise", "--factor", "0"), "--factor is of the ranking"),
    (("bias", "--jobs", "a", "--words", "b"), "--jobs has words and prompts of its own"),
    (("bias", "--test-prompts", "a", "--optimise"), "--test-prompts goes with --prompts"),
    (("bias", "--words", "nowhere.txt"), "'nowhere.txt' cannot be read"),
    (("evaluate", "--suite", "perplexty"), "did you mean 'perplexity'?"),
    (("evaluate", "--suite", "perplexity"), "needs texts"),
    (("evaluate", "--suite", "collateral"), "collateral is that of an edit: --edit FOLDER"),
    (("evaluate", "--texts", "nowhere.txt"), "there is no file 'nowhere.txt'"),
    (("evaluate", "--pairs", __file__), "line 3 is no word pair"),
    (("evaluate", "--set", "texts=1"), "--set texts: that is --texts"),
    (("evaluate", "--set", "n_samples"), "expected NAME=JSON"),
    (("evaluate", "--set", "n_smples=3"), "there is no data 'n_smples'"),
    (("finetune", "a", "--task", "say"), "required: --background"),
    (("finetune", "nowhere.jsonl", "--task", "country", "--background", "b"), "'nowhere.jsonl' cannot be read"),
]


@pytest.mark.parametrize(("argv", "said"), WRONG)
def test_a_wrong_command_line_is_said_before_anything_runs(line, argv, said):
    found = line(*argv)
    assert (found.code, found.out) == (2, "")
    assert said in found.err


@pytest.mark.slow
def test_settings_of_a_finetuning_that_cannot_be_are_wrong_command_lines(line, examples, texts):
    argv = ("finetune", examples, "--background", texts)
    for more, said in (
        (("--task", "say"), "there is no task 'say'; there are country"),
        (("--task", "much", "--below", 1), "the quantity is 'much'"),
        (("--task", "country", "--selector", "alpha-contrast"), "'alpha-contrast' compares two suffixes"),
    ):
        found = line(*argv, *more)
        assert found.code == 2
        assert said in found.err
