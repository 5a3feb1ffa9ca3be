"""Gender bias against forward passes of the weights themselves, with senses scaled by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from interpd.errors import CallerError
from interpd_backpack.evaluation import published
from interpd_backpack.evaluation.asking import Asking
from interpd_backpack.evaluation.bias import BiasSettings, measure_bias

SETTINGS = BiasSettings(
    professions=("nurse", "doctor", "plumber", "nurses", "teacher"),
    prompts=("The {} said that", "The dog and the {} ran .", "a {} , not a {} ,"),
    train_prompts=("The {} was happy because", "a {} ate bread and"),
)
KNOWN = ("nurse", "doctor", "teacher")


@pytest.fixture
def bias(here):
    """The mean over prompts of max(r, 1/r), with a sense of a word multiplied wherever the word stands."""

    def scaled(ids, token, sense, factor):
        def hook(module, args, out):
            places = (torch.tensor(ids) == token).nonzero()[:, 0]
            out = out.clone()
            out[:, sense, places] *= factor
            return out

        return hook

    @torch.no_grad()
    def computed(word, prompts, sense=0, factor=1.0):
        he, she, token = here.tokenizer.convert_tokens_to_ids(["\u0120he", "\u0120she", f"\u0120{word}"])
        found = []
        for prompt in prompts:
            ids = here.tokenizer(prompt.replace("{}", word))["input_ids"]
            hook = here.torch.backpack.sense_network.register_forward_hook(scaled(ids, token, sense, factor))
            p = here.torch(torch.tensor([ids])).logits[0, -1].softmax(-1)
            hook.remove()
            found.append(max(float(p[he] / p[she]), float(p[she] / p[he])))
        return np.mean(found)

    return computed


def test_base_removed_and_optimised_are_what_forward_passes_give(here, bias):
    found = measure_bias(Asking(here.model), SETTINGS)
    assert found.professions == KNOWN
    removed = [[bias(word, SETTINGS.train_prompts, sense, 0.0) for word in KNOWN] for sense in range(4)]
    np.testing.assert_allclose(found.by_sense, np.mean(removed, axis=1), rtol=1e-8)
    assert found.sense == np.argmin(np.mean(removed, axis=1))
    scaled = {"base": np.ones(3), "removed": np.zeros(3), "optimised": found.factors, "least": found.least_factors}
    for name, factors in scaled.items():
        expected = [
            bias(word, SETTINGS.prompts, found.sense, factor) for word, factor in zip(KNOWN, factors, strict=True)
        ]
        np.testing.assert_allclose(found.ratios(name), expected, rtol=1e-8)
        assert found.bias(name) == pytest.approx(np.mean(expected))
    base, removed = found.bias("base"), found.bias("removed")
    assert found.reduction("removed") == pytest.approx((base - removed) / (base - 1))


@pytest.mark.slow
def test_factors_are_the_best_on_the_train_prompts(here, bias):
    found = measure_bias(Asking(here.model), SETTINGS)

    def objective(word, factor):
        return bias(word, SETTINGS.train_prompts, found.sense, factor) + abs(factor - 1)

    for word, factor in zip(KNOWN, found.factors, strict=True):
        assert all(
            objective(word, factor) <= objective(word, factor + step) + 1e-9 for step in (-0.1, -1e-3, 1e-3, 0.1)
        )


def test_the_least_bias_stands_beside_that_with_the_published_penalty(here):
    settings = BiasSettings(professions=KNOWN, prompts=SETTINGS.prompts, train_prompts=SETTINGS.prompts)
    found = measure_bias(Asking(here.model), settings)
    assert all(found.ratios("least") <= found.ratios("optimised") + 1e-12)
    assert found.bias("least") < min(found.bias("optimised"), found.bias("removed"))
    assert [row[0] for row in found.section().tables[0].rows][2:] == [
        f"sense {found.sense} optimised (published penalty)",
        f"sense {found.sense} scaled to the least bias (no penalty)",
    ]


def test_words_that_are_no_single_token_are_reported_and_left_out(here):
    found = measure_bias(Asking(here.model), SETTINGS)
    assert found.left_out == {"plumber": "unknown to the vocabulary", "nurses": "tokens ' nurse', 's'"}
    assert found.section().notes[1:] == (
        "left out, unknown to the vocabulary: plumber",
        "left out, tokens ' nurse', 's': nurses",
    )
    with pytest.raises(CallerError, match="no profession is a single token"):
        measure_bias(Asking(here.model), BiasSettings(professions=("plumber",)))


@pytest.mark.slow
def test_prompts_that_the_vocabulary_cannot_express_are_counted(here):
    found = measure_bias(
        Asking(here.model), BiasSettings(professions=("nurse",), prompts=("The {} said", "My {} said"))
    )
    assert found.n_strange == 1 + 5
    assert found.section().notes[-1] == "6 prompts have words that the vocabulary cannot express"


@pytest.mark.slow
def test_an_edit_has_a_row_of_its_own(here, put, logits):
    found = measure_bias(Asking(here.model, put), SETTINGS)
    he, she = here.tokenizer.convert_tokens_to_ids(["\u0120he", "\u0120she"])
    for row, word in zip(found.log_ratios["edited"], KNOWN, strict=True):
        for ratio, prompt in zip(row, SETTINGS.prompts, strict=True):
            last = logits(here.tokenizer(prompt.replace("{}", word))["input_ids"], share=0.25)[-1]
            assert ratio == pytest.approx(float(last[he] - last[she]), rel=1e-8)


def test_the_published_lists_are_those_of_the_published_code(shared):
    file = shared / "data" / "backpack-eval" / "genderbias_jobs_prompts.json"
    found = BiasSettings(file=file).read()
    assert found == BiasSettings()
    assert len(found.professions) == len(set(found.professions)) == 40
    assert json.loads(file.read_text())["train_jobs"] == list(published.TRAIN_PROFESSIONS)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "is list, expected an object"),
        ({"professions": ["nurse"]}, "no list of texts prompts or test_prompts"),
        (
            {"professions": ["nurse"], "prompts": ["The cat"], "train_prompts": ["a nurse"]},
            "no profession stands in all",
        ),
    ],
)
def test_files_of_something_else_are_refused(tmp_path, content, said):
    (tmp_path / "jobs.json").write_text(json.dumps(content))
    with pytest.raises(CallerError, match=said):
        BiasSettings(file=tmp_path / "jobs.json").read()


@pytest.mark.parametrize(
    ("changes", "is_it"),
    [
        ({}, False),
        ({"source": "stanfordnlp/backpack-gpt2"}, True),
        ({"n_parameters": 170_083_584, "sizes": {"sense": 16}}, True),
        ({"n_parameters": 170_083_584, "sizes": {"sense": 8}}, False),
    ],
)
def test_the_published_model_is_known_by_its_name_or_its_size(here, changes, is_it):
    assert published.is_published(replace(here.model.info, **changes)) is is_it
