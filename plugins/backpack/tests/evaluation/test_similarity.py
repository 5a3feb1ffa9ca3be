"""Rank correlations of sense similarities against the senses of the weights themselves."""

import numpy as np
import pytest
import torch

from interpd.errors import CallerError
from interpd_backpack.evaluation import similarity as module
from interpd_backpack.evaluation.asking import Asking
from interpd_backpack.evaluation.published import similarity_of
from interpd_backpack.evaluation.similarity import SimilaritySettings, measure_similarity
from interpd_backpack.evaluation.statistics import spearman

PAIRS = (("nurse", "doctor"), ("nurses", "dog"), ("cat", "robots"), ("film", "music"), ("bread", "fish"), ("he", "she"))
RATINGS = (8.0, 1.5, 2.0, 7.0, 5.0, 7.0)


@pytest.fixture
def file(tmp_path):
    """The pairs, and one with a word that the vocabulary does not have."""
    rows = [*zip(PAIRS, RATINGS, strict=True), (("plumber", "cat"), 3.0)]
    (tmp_path / "own.txt").write_text("".join(f"{one}\t{other}\t{rating}\n" for (one, other), rating in rows))
    return tmp_path / "own.txt"


@torch.no_grad()
def senses(here, word):
    """The mean of the senses of a word's pieces, ``[sense d_model]``."""
    ids = here.tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
    return here.torch.backpack.sense_network(here.torch.backpack.gpt2_model.wte(torch.tensor([ids])))[0].mean(1)


def cosine(one, other):
    return torch.nn.functional.cosine_similarity(one, other, dim=-1).numpy()


@pytest.mark.parametrize("at_once", [2000, 4])
def test_correlations_are_those_of_cosines_by_hand(here, file, monkeypatch, at_once):
    monkeypatch.setattr(module, "PAIRS_AT_ONCE", at_once)
    (found,) = measure_similarity(Asking(here.model), SimilaritySettings(files=(file,), unknown="drop")).sets
    vectors = [[senses(here, word) for word in pair] for pair in PAIRS]
    table = np.stack([cosine(*pair) for pair in vectors])
    grid = [cosine(one[:, None], other[None]) for one, other in vectors]
    np.testing.assert_allclose(found.by_sense, [spearman(column, RATINGS) for column in table.T], atol=1e-12)
    assert found.others == pytest.approx(
        {
            "min": spearman(table.min(1), RATINGS),
            "max": spearman(table.max(1), RATINGS),
            "flat": spearman(np.array([cosine(one.flatten(), other.flatten()) for one, other in vectors]), RATINGS),
            "max of all pairs": spearman(np.array([one.max() for one in grid]), RATINGS),
            "min of all pairs": spearman(np.array([one.min() for one in grid]), RATINGS),
        }
    )
    assert (found.n_pairs, found.n_unknown, found.n_several) == (6, 1, 2)


def test_pairs_that_the_vocabulary_cannot_express_are_counted_kept_or_refused(here, file):
    kept = measure_similarity(Asking(here.model), SimilaritySettings(files=(file,)))
    assert (kept.sets[0].n_pairs, kept.sets[0].n_unknown) == (7, 1)
    assert "1 pairs have a word that the vocabulary cannot express; they were kept" in kept.section().notes
    with pytest.raises(CallerError, match="cannot express the pair 'plumber', 'cat'"):
        measure_similarity(Asking(here.model), SimilaritySettings(files=(file,), unknown="refuse"))
    with pytest.raises(CallerError, match="unknown is 'ignore'"):
        measure_similarity(Asking(here.model), SimilaritySettings(files=(file,), unknown="ignore"))


def test_published_numbers_are_those_of_the_sets_of_that_size():
    assert similarity_of(999) == {"sense 12": 0.522, "sense 14": 0.5, "min": 0.54}
    assert similarity_of(3500)["sense 14"] == 0.502
    assert similarity_of(1000) == {}


@pytest.mark.slow
def test_published_files_are_measured_whole(here, shared):
    files = tuple(shared / "data" / "word-similarity" / f"EN-{name}.txt" for name in ("RG-65", "WS-353-SIM"))
    found = measure_similarity(Asking(here.model), SimilaritySettings(files=files))
    assert [one.name for one in found.sets] == [file.stem for file in files]
    assert all(one.published == {} for one in found.sets)


def test_the_papers_numbers_stand_beside_those_of_the_published_model(here, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "is_published", lambda info: True)
    rows = "".join(f"{one} {other} {number % 7}\n" for number, (one, other) in enumerate([*PAIRS] * 11) if number < 65)
    (tmp_path / "rg65.txt").write_text(rows)
    found = measure_similarity(Asking(here.model), SimilaritySettings(files=(tmp_path / "rg65.txt",)))
    table = found.section().tables[0]
    assert table.columns == ("similarity by", "rg65", "rg65, paper")
    assert {row[0]: row[2] for row in table.rows if row[2] is not None} == {"min": 0.653}
