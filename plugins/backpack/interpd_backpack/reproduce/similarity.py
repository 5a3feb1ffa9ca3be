"""Sense-specific similarity: do senses find words alike that are? (Hewitt et al. 2023, section 5, Table 4)"""

from collections.abc import Sequence

import numpy as np

from interpd.cli import Report
from interpd_backpack.evaluation import Chart, SimilaritySettings, Suite, WordPairs, evaluate, read_word_pairs
from interpd_backpack.evaluation.asking import Asking
from interpd_backpack.evaluation.charts import svg
from interpd_backpack.evaluation.published import SIMILARITY
from interpd_backpack.evaluation.statistics import spearman
from interpd_backpack.reproduce.bundled import Bundled
from interpd_client import Model

SETS = {"similarity-nouns": "SL999", "similarity-verbs": "SV3500"}
"""Files of the world, and what the paper has that is most like them."""
TRANSFORMER = {"SL999": 0.478, "SV3500": 0.363, "RG65": 0.634, "WS353": 0.681}
"""Input embeddings of the paper's transformer."""


def reproduce_similarity(both: Bundled, report: Report) -> dict[str, bool]:
    """Adds the section; what is claimed, and whether it holds."""
    files = tuple(both.folder / f"{name}.txt" for name in SETS)
    nouns, verbs = evaluate(both.backpack, Suite(similarity=SimilaritySettings(files=files)))["similarity"].sets
    embedded = [embedding_similarity(both.twin, read_word_pairs(path)) for path in files]
    best = sorted(range(len(nouns.by_sense)), key=lambda sense: -(nouns.by_sense[sense] + verbs.by_sense[sense]))[:2]
    rows = [(f"sense {sense}", f"{nouns.by_sense[sense]:.3f}", f"{verbs.by_sense[sense]:.3f}") for sense in best]
    rows += [(name, *(f"{one.others[name]:.3f}" for one in (nouns, verbs))) for name in ("min", "flat")]
    rows.append(("embeddings of the transformer", *(f"{rho:.3f}" for rho in embedded)))
    paper = [(f"paper: {name}", *(f"{SIMILARITY[one][name]:.3f}" for one in SETS.values())) for name in PAPER_ROWS]
    paper.append(("paper: embeddings of the transformer", *(f"{TRANSFORMER[one]:.3f}" for one in SETS.values())))
    ahead = [one.by_sense.max() > rho for one, rho in zip((nouns, verbs), embedded, strict=True)]
    report.heading("Sense-specific similarity")
    report.text(
        "Spearman's rho of cosines with planted similarity: the cosine of what two words occur with. The paper's are "
        "with people's ratings (SimLex-999 and SimVerb-3500)."
    )
    report.table(("", "nouns", "verbs"), [*rows, *paper])
    report.text(_about(ahead, nouns.by_sense, verbs.by_sense))
    labels = tuple(f"sense {sense}" for sense in range(len(nouns.by_sense)))
    chart = Chart(
        "Spearman's rho by sense", labels, {"nouns": nouns.by_sense.tolist(), "verbs": verbs.by_sense.tolist()}
    )
    report.figure("similarity", svg(chart), "rank correlation with planted similarity, by sense")
    report.numbers["similarity"] = {
        **{one.name: one.rows() for one in (nouns, verbs)},
        "embeddings": dict(zip(SETS, embedded, strict=True)),
        "paper": SIMILARITY,
        "paper_embeddings": TRANSFORMER,
    }
    return {
        "one sense finds nouns and verbs alike that are (rho > 0.8)": bool(
            np.minimum(nouns.by_sense, verbs.by_sense).max() > 0.8
        ),
        "senses differ in what they find alike: rho of verbs spreads by more than 0.3": bool(
            np.ptp(verbs.by_sense) > 0.3
        ),
    }


PAPER_ROWS = ("sense 12", "sense 14", "min")


def embedding_similarity(model: Model, pairs: WordPairs) -> float:
    """Spearman's rho of the cosines of input embeddings with the ratings; of words of several tokens the mean."""
    names = sorted({one for pair in pairs.pairs for one in pair})
    # as evaluate(...) has it beside this: words that a vocabulary lacks are kept
    tokens = Asking(model).tokens([f" {one}" for one in names], special=False)
    vectors = embeddings(model, [id_ for ids in tokens for id_ in ids])
    ends = np.cumsum([len(ids) for ids in tokens])
    means = np.stack([part.mean(0) for part in np.split(vectors, ends[:-1])])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    place = {name: number for number, name in enumerate(names)}
    cosines = np.array([means[place[one]] @ means[place[other]] for one, other in pairs.pairs])
    return spearman(cosines, pairs.ratings)


def embeddings(model: Model, ids: Sequence[int]) -> np.ndarray:
    """Rows of the input embedding, ``[token d_model]``."""
    found = []
    room = model.info.max_positions or len(ids)
    for start in range(0, len(ids), room):
        t = model.trace(list(ids[start : start + room]), progress=False)
        t.save(rows=t.embed[0])
        found.append(np.asarray(t.run()["rows"], dtype=np.float64))
    return np.concatenate(found)


def _about(ahead: Sequence[bool], nouns: np.ndarray, verbs: np.ndarray) -> str:
    ranges = [f"{rhos.min():.2f} to {rhos.max():.2f}" for rhos in (nouns, verbs)]
    spread = f"Senses differ: rho is {ranges[0]} for nouns, {ranges[1]} for verbs. "
    if all(ahead):
        return spread + "As in the paper, the best sense is ahead of the transformer's embeddings."
    return spread + (
        "That the best sense is ahead of the transformer's embeddings, as in the paper, is not so here: what words "
        "occur with is all there is to know of them in this world, embeddings have it to the full, and senses divide "
        "it."
    )
