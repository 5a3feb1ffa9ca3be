"""Knowledge editing: who makes a product is replaced in its senses, and what else that changes (section 6.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from interpd.cli import Report
from interpd.zoo.facts.world import Fact
from interpd_backpack.edits import Edit, ReplaceAssociation
from interpd_backpack.evaluation import Chart, PerplexitySettings, Suite, evaluate
from interpd_backpack.evaluation.charts import svg
from interpd_backpack.reproduce.bundled import Bundled
from interpd_backpack.reproduce.similarity import embeddings

RELATION = "made_by"
EXAMPLES = ("trained templates", "unseen templates")


@dataclass(frozen=True)
class Swap:
    """A fact, what is to be its answer, and what came of it."""

    fact: Fact
    new: str
    edit: Edit
    p_old: np.ndarray
    """p of the old answer before and after, ``[template 2]``."""
    p_new: np.ndarray
    is_new: np.ndarray
    """Whether the new answer is ahead of all others, ``[template 2]``."""
    kl: float
    """Mean over the predictions of the control texts, in nats."""
    left: float
    """E_a . E_r / |E_a|^2: what the formula leaves of what a sense says of the old answer."""


def reproduce_knowledge(both: Bundled, report: Report) -> dict[str, bool]:
    """Adds the section; what is claimed, and whether it holds."""
    facts = [fact for fact in both.world.known.facts if fact.relation == RELATION][: both.size.n_edits]
    makers = sorted({fact.object for fact in both.world.known.facts if fact.relation == RELATION})
    swaps = [_swap(both, fact, _another(makers, fact.object)) for fact in facts]
    groups = {name: _numbers(swaps, is_unseen=name == EXAMPLES[1]) for name in EXAMPLES}
    everything = sum((swap.edit for swap in swaps[1:]), swaps[0].edit)
    texts = PerplexitySettings(documents=both.held_out[: both.size.n_texts])
    text = evaluate(both.backpack, Suite(perplexity=texts), edit=everything)["perplexity"]
    kl = float(np.mean([swap.kl for swap in swaps]))
    report.heading("Knowledge editing")
    report.text(
        f"Of {len(swaps)} products the maker is replaced by another company in all senses of the product "
        "(`ReplaceAssociation`, the published code's formula): one closed-form edit each, without any example. The "
        "paper shows two such edits by what is generated (MacBook: Apple to HP, Brady: Patriots to Colts), and no "
        "numbers."
    )
    rows = [
        (name, *(f"{100 * value:.1f}" for pair in group.values() for value in pair)) for name, group in groups.items()
    ]
    report.table(("%", "new first, before", "after", "p(new), before", "after", "p(old), before", "after"), rows)
    report.text(
        f"Collateral: each edit moves predictions on {both.size.n_controls} texts without its product by a KL of "
        f"{kl:.2g} nats on average; with all {len(swaps)} in force held-out perplexity goes from {text.before:.4f} to "
        f"{text.after:.4f} ({100 * text.degradation:+.3f} % of -log p; texts about these products, which tell the old "
        "maker, are among them)."
    )
    left = float(np.mean([swap.left for swap in swaps]))
    report.text(
        "Success is partial, other than the paper's examples may suggest: the formula leaves E_new · E_old / |E_new|² "
        f"of what a sense says of the old maker, {left:.0%} here on average (companies have rows that are alike), and "
        "words around the product, which it does not touch, go on to say companies."
    )
    bars = {
        when: [100 * group["new first"][number] for group in groups.values()]
        for number, when in enumerate(("before", "after"))
    }
    report.figure(
        "knowledge", svg(Chart("the new maker is ahead (%)", EXAMPLES, bars)), "success of edits, by template"
    )
    report.numbers["knowledge"] = {
        "edits": [
            {"subject": swap.fact.subject, "from": swap.fact.object, "to": swap.new, "kl": swap.kl} for swap in swaps
        ],
        "success": groups,
        "kl": kl,
        "left": left,
        "perplexity": {"before": text.before, "after": text.after, "degradation": text.degradation},
    }
    return _findings(groups, swaps)


def _findings(groups: Mapping[str, Mapping[str, tuple[float, float]]], swaps: Sequence[Swap]) -> dict[str, bool]:
    return {
        "an edit takes a third of the old maker's probability or more, in unseen templates, too": all(
            group["p(old)"][1] < 2 / 3 * group["p(old)"][0] for group in groups.values()
        ),
        "and gives the new one, which had none, a tenth or more": all(
            group["p(new)"][0] < 0.05 and group["p(new)"][1] > 0.1 for group in groups.values()
        ),
        "predictions on texts without the product stay exactly as they are": all(swap.kl < 1e-9 for swap in swaps),
    }


def _another(makers: Sequence[str], one: str) -> str:
    return makers[(makers.index(one) + 1) % len(makers)]


def _swap(both: Bundled, fact: Fact, new: str) -> Swap:
    model, relation = both.backpack.backpack, both.world.known.relations[RELATION]
    edit = model.edit(ReplaceAssociation(fact.subject, remove=fact.object, add=new), name=f"{fact.subject}: {new}")
    prompts = [both.world.known.prompt(fact, number) for number in range(len(relation.templates))]
    found = model.effects(prompts, [edit], targets="all")
    ids = [word.ids[0] for word in (model.senses(fact.object, top=1).words[0], model.senses(new, top=1).words[0])]
    logs = np.stack([found.log_p_before, found.log_p_after[0]], 1)
    columns = {word.ids[0]: number for number, word in enumerate(found.targets)}
    old, fresh = (logs[..., columns[id_]] for id_ in ids)
    controls = [text for text in both.held_out if fact.subject not in text][: both.size.n_controls]
    before, after = embeddings(both.backpack, ids)
    left = float(before @ after / (after @ after))
    moved = model.effects(controls, [edit], position="all").collateral()[0]
    return Swap(fact, new, edit, np.exp(old), np.exp(fresh), logs.argmax(-1) == columns[ids[1]], moved.mean_kl, left)


def _numbers(swaps: Sequence[Swap], *, is_unseen: bool) -> dict[str, tuple[float, float]]:
    """Means before and after over the templates that training showed, or did not."""
    found = {}
    for name, field in (("new first", "is_new"), ("p(new)", "p_new"), ("p(old)", "p_old")):
        rows = [
            getattr(swap, field)[number]
            for swap in swaps
            for number in range(len(swap.is_new))
            if (number in swap.fact.held_out) == is_unseen
        ]
        before, after = np.mean(rows, 0)
        found[name] = (float(before), float(after))
    return found
