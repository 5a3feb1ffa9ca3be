"""All parts in one call, and what it is shown as."""

import json
import math

import numpy as np
import pytest
import torch

from interpd.errors import CallerError
from interpd_backpack.edits import MaskWeights, Remove, Topic
from interpd_backpack.evaluation import (
    BiasSettings,
    Chart,
    CollateralSettings,
    Data,
    Evaluation,
    PerplexitySettings,
    SimilaritySettings,
    Suite,
    Table,
    TopicSettings,
    evaluate,
)
from interpd_backpack.evaluation.asking import Asking
from interpd_backpack.evaluation.charts import svg
from interpd_backpack.evaluation.sections import written
from interpd_backpack.evaluation.settings import suite_of

PROFESSIONS = BiasSettings(professions=("nurse", "doctor"), prompts=("The {} said",), train_prompts=("a {} ,",))


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """All parts that need no generation; the word pairs are missing."""
    return Suite(
        similarity=SimilaritySettings(files=(tmp_path_factory.mktemp("pairs") / "missing.txt",)),
        bias=PROFESSIONS,
        perplexity=PerplexitySettings(documents=("The <b>nurse</b> | said",)),
        collateral=CollateralSettings(prompts=("The dog ran",)),
    )


@pytest.fixture(scope="module")
def found(here, put, suite):
    return evaluate(here.model, suite, edit=put)


def test_a_part_that_fails_costs_no_other(found):
    assert list(found.parts) == ["bias", "perplexity", "collateral"]
    assert list(found.failures) == ["similarity"]
    assert "missing.txt' cannot be read" in found.failures["similarity"]
    with pytest.raises(KeyError, match="could not be measured"):
        found["similarity"]


def test_files_are_read_before_anything_runs(here, tmp_path):
    (tmp_path / "pairs.txt").write_text("nurse doctor\nsong\t3\n")
    (tmp_path / "bags.json").write_text("[")
    (tmp_path / "text.txt").write_text("The dog ran")
    wrong = Suite(
        similarity=SimilaritySettings(files=(tmp_path / "pairs.txt",)),
        perplexity=PerplexitySettings(texts=(tmp_path / "text.txt",)),
        topics=TopicSettings(bags=tmp_path / "bags.json"),
    )

    def begun(part, *_):
        # what is read later is not there any more
        (tmp_path / "bags.json").unlink(missing_ok=True)

    found = evaluate(here.model, wrong, on_progress=begun)
    assert list(found.parts) == ["perplexity"]
    assert "line 2 is no word pair" in found.failures["similarity"]
    assert "is no JSON" in found.failures["topics"]


def test_what_the_only_part_refuses_is_raised(here):
    with pytest.raises(CallerError, match="collateral is that of an edit"):
        evaluate(here.model, "collateral")


@pytest.mark.slow
def test_progress_says_the_part_and_how_far_it_is(here, put, suite):
    told = []
    evaluate(here.model, suite, edit=put, on_progress=lambda *args: told.append(args))
    assert list(dict.fromkeys(part for part, *_ in told)) == ["bias", "perplexity", "collateral"]
    assert all(0 <= done <= total for _, done, total, _ in told)


def test_every_view_has_the_numbers_and_the_failures(found, tmp_path, capsys):
    bias = written(found["bias"].bias("removed"))
    folder = found.save(tmp_path / "report")
    html, markdown = ((folder / name).read_text() for name in ("report.html", "report.md"))
    found.show()
    terminal = capsys.readouterr().out
    for text in (html, markdown, terminal):
        assert bias in text
        assert "cannot be read" in text
    assert html.startswith("<!doctype html>")
    assert html.count("<svg") == 2
    assert "<b>nurse</b>" not in html
    numbers = json.loads((folder / "numbers.json").read_text())
    assert numbers["parts"]["bias"]["bias"]["removed"] == found["bias"].bias("removed")
    assert numbers["failures"].keys() == {"similarity"}
    assert numbers["provenance"]["edit"] == "put_in_force"
    assert json.loads(found.to_json()) == numbers


def test_parts_by_their_names_take_their_data(here, put, tmp_path):
    (tmp_path / "text.txt").write_text("The dog ran")
    found = evaluate(
        here.model, ["perplexity", "collateral"], edit=put, texts=tmp_path / "text.txt", prompts=("a cat",)
    )
    assert list(found.parts) == ["perplexity", "collateral"]
    assert found["collateral"].prompts == ("a cat",)


@pytest.fixture
def without(here):
    """The edit that takes sense 1 from nurses."""
    return here.model.backpack.edit(Remove("nurse", 1), name="nurse without 1")


def test_edits_of_the_edit_language_are_measured(here, without):
    text = "The nurse said that she was not happy . A dog and the nurse sat"
    found = here.model.backpack.evaluate(Suite(perplexity=PerplexitySettings(documents=(text,))), edit=without)
    ids = here.tokenizer(text)["input_ids"]
    (token,) = here.tokenizer(" nurse", add_special_tokens=False)["input_ids"]

    def removed(module, args, out):
        return out.masked_fill(
            (torch.tensor(ids) == token)[None, None, :, None] & (torch.arange(4) == 1).view(-1, 1, 1), 0
        )

    hook = here.torch.backpack.sense_network.register_forward_hook(removed)
    with torch.no_grad():
        logs = here.torch(torch.tensor([ids])).logits[0].log_softmax(-1)
    hook.remove()
    expected = -logs[:-1].gather(-1, torch.tensor(ids)[1:, None])[:, 0].numpy()
    np.testing.assert_allclose(found["perplexity"].edited, expected, rtol=1e-9)
    assert found["perplexity"].degradation != 0
    assert found.provenance["edit"] == "nurse without 1"
    assert found.provenance["edit digest"] == without.digest


OPERATIONS = {
    "topic": Topic(("cat", "dog"), 3),
    "annealed": Topic(("cat", "dog"), 3, anneal=True),
    "masked": MaskWeights("nurse", 1, 0.5),
    "positions": MaskWeights(positions=(1, 2), senses=0),
    "against": MaskWeights("nurse", 1, 3.0, negative_only=0.1),
}


@pytest.mark.parametrize(
    "name", ["against", *(pytest.param(name, marks=pytest.mark.slow) for name in OPERATIONS if name != "against")]
)
def test_rows_are_measured_under_an_edit_as_traces_are(here, name):
    texts = ("The nurse said that she was late", "The nurse and a cat", "the doctor ate")
    edit = here.model.backpack.edit(OPERATIONS[name])
    asking = Asking(here.model, lambda t: here.model.backpack.with_edit(t, edit))
    ids = asking.tokens(texts)
    plain, found = asking.surprisals(ids), asking.surprisals(ids, edited=True)
    for one, values in zip(ids, found, strict=True):
        with here.model.trace(list(one)) as t:
            here.model.backpack.with_edit(t, edit)
            t.save(logs=t.logits[0].log_softmax(-1))
        logs = t.result["logs"]
        np.testing.assert_allclose(values[1:], [-logs[at, id_] for at, id_ in enumerate(one[1:])], rtol=1e-9)
    assert np.abs(plain[0] - found[0]).max() > 1e-6


def test_topic_edits_are_those_of_the_edit_language(here):
    settings = TopicSettings(bags={"pets": ("cat", "dog")}, strengths=(3,), n_samples=2, max_new_tokens=5, seed=7)
    found = here.model.backpack.evaluate(Suite(topics=settings))["topics"]
    edit = here.model.backpack.edit(Topic(("cat", "dog"), 3, anneal=True))
    for number in range(2):
        with here.model.generate("", max_new_tokens=5, do_sample=True, seed=7 + number, ignore_eos=True) as g:
            here.model.backpack.with_edit(g, edit)
        assert found.rows[1].samples[number].ids == g.result.token_ids
    assert found.rows[0].samples != found.rows[1].samples


def test_without_names_all_parts_are_measured_whose_data_are_there():
    def names(has_edit=False, **given):
        return [name for name, _ in suite_of(None, given, has_edit=has_edit).parts()]

    given = {"pairs": "a.txt", "bags": {"a": ["b"]}, "examples": "e.jsonl", "task": "gender"}
    assert names(**given, has_edit=True) == ["similarity", "topics", "examples", "collateral"]
    assert names(texts="a.txt") == ["perplexity"]
    for bias in ({"jobs": "a.json"}, {"sense": 0}, {"professions": ("nurse",)}):
        assert names(texts="a.txt", **bias) == ["bias", "perplexity"]
    assert names() == ["bias"]
    assert names(has_edit=True) == ["bias", "collateral"]
    assert Data(texts="a.txt").settings("perplexity") == PerplexitySettings(texts=("a.txt",))


def test_settings_of_the_parts_that_are_named_can_be_given_by_name():
    given = {"bags": {"pets": ("cat",)}, "n_samples": 3, "strengths": (2,), "texts": "a.txt", "stride": 8}
    found = suite_of(("topics", "perplexity"), given, has_edit=False)
    assert found.topics == TopicSettings(bags={"pets": ("cat",)}, n_samples=3, strengths=(2,))
    assert found.perplexity == PerplexitySettings(texts=("a.txt",), stride=8)
    with pytest.raises(CallerError, match="no data 'strides'; did you mean 'stride'"):
        suite_of("perplexity", {"texts": "a.txt", "strides": 8}, has_edit=False)


@pytest.mark.parametrize(
    ("asked", "data", "said"),
    [
        ("perplexty", {}, "no part 'perplexty'; did you mean 'perplexity'"),
        ("bias", {"text": "a"}, "no data 'text'; did you mean 'texts'"),
        ("perplexity", {}, "the part 'perplexity' needs texts"),
        ("examples", {"examples": "e.jsonl"}, "'examples' needs task"),
        (Suite(), {}, "nothing to measure"),
        (Suite(bias=PROFESSIONS), {"texts": "a"}, "a suite has its own data"),
        (
            "similarity",
            {"pairs": [("cat", "dog", 5.0)]},
            r"pairs are files, got \('cat', 'dog', 5.0\): .* parted by tabs",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_computed(here, asked, data, said):
    with pytest.raises(CallerError, match=said):
        evaluate(here.model, asked, **data)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((None, "–"), (math.nan, "–"), (True, "yes"), ("a", "a"), (12345, "12345"), (4.336, "4.336")),
        *((0.0, "0.0000"), (0.12345, "0.1235"), (-65.4321, "-65.43"), (1e-5, "1e-05"), (2.5e9, "2.5e+09")),
    ],
)
def test_numbers_are_written_with_the_digits_that_count(value, text):
    assert written(value) == text


def test_charts_leave_out_what_is_no_number_and_mark_a_level():
    drawn = svg(Chart("a <b>", ("x", "y"), {"one": [1.0, math.nan], "two": [-1.0, 0.5]}, line=1.0))
    assert drawn.count("<rect") == 3 + 2
    assert "a &lt;b&gt;" in drawn
    assert "stroke-dasharray" in drawn
    assert "nan" not in drawn


def test_an_evaluation_of_nothing_can_be_shown():
    empty = Evaluation({}, {"bias": "no\nreason"}, {"model": "m"})
    assert "no reason" in empty.to_markdown()
    assert "no reason" in empty.to_html()
    assert Table(("a",), ((None,),)).written() == [["–"]]
