"""Which method tells the truth on the bundled models: a table of methods and metrics for each of them."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from interpd import zoo
from interpd_attribution.evaluation import Evaluation, evaluate
from interpd_attribution.evaluation.metrics import METRICS as ABOUT
from interpd_attribution.reproduce.facts import draw
from interpd_attribution.reproduce.report import Report
from interpd_attribution.zoo.translate.world import Sentence, load_world
from interpd_client import Model

SIGNED = {"reduce": "sum"}
METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "saliency": ("saliency", {}),
    "input x gradient, length": ("input_x_gradient", {}),
    "input x gradient": ("input_x_gradient", SIGNED),
    "gradient x difference": ("gradient_x_difference", SIGNED),
    "integrated gradients": ("integrated_gradients", {**SIGNED, "n_steps": 50}),
    "sequential IG": ("sequential_integrated_gradients", {**SIGNED, "n_steps": 8}),
    "gradient SHAP": ("gradient_shap", SIGNED),
    "smoothgrad": ("smoothgrad", {}),
    "occlusion": ("occlusion", {}),
    "feature ablation": ("feature_ablation", {}),
    "Shapley sampling": ("shapley_value_sampling", {}),
    "attention": ("attention", {}),
    "value zeroing": ("value_zeroing", {}),
}
METRICS = ("comprehensiveness", "sufficiency", "deletion", "insertion", "sensitivity_n", "tau_loo", "gini")
CHANCE = "random"
TRUSTED = ("sequential IG", "occlusion", "feature ablation", "Shapley sampling")


def compare_methods(models: Mapping[str, Model], report: Report, n_inputs: int) -> dict[str, bool]:
    """Adds the section to the report; what was claimed, and whether it was found.

    Args:
        models: ``facts`` and ``translate``.
        report: To add to.
        n_inputs: Of each model.
    """
    pairs = draw(models["facts"], n_inputs, seed=2)
    sentences = _sentences(n_inputs)
    tables = {
        "facts": _table(models["facts"], [list(one.prompt) for one in pairs], [[one.true] for one in pairs]),
        "translate": _table(models["translate"], [one.source for one in sentences], [one.target for one in sentences]),
    }
    report.heading("(c) Which method tells the truth: faithfulness on both models")
    report.text(
        f"{n_inputs} prompts of facts with their answers, {n_inputs} sentences that translate was never shown with all "
        "words of their translations; the target is the probability, what is removed becomes the unknown token. Means "
        "over inputs; arrows say which way is better."
    )
    found: dict[str, bool] = {}
    for name, table in tables.items():
        arrows = {"high": " ↑", "low": " ↓", "": ""}
        head = [f"{metric}{arrows[ABOUT[metric].better]}" for metric in METRICS]
        report.table((name, *head), [(one, *(f"{table[one, m].mean:.3f}" for m in METRICS)) for one in table.methods])
        report.text(f"Below chance in comprehensiveness: {_below_chance(table)}.")
        found |= _claims(name, table)
        report.numbers[f"faithfulness_{name}"] = {
            one: {
                metric: {"mean": table[one, metric].mean, "error": table[one, metric].standard_error}
                for metric in METRICS
            }
            for one in table.methods
        }
    report.findings(found)
    report.numbers["faithfulness_findings"] = found
    return found


def _table(model: Model, inputs: Sequence[Any], generated: Sequence[Any]) -> Evaluation:
    return evaluate(model, list(inputs), list(generated), methods=METHODS, metrics=METRICS)


def _sentences(count: int, seed: int = 3) -> list[Sentence]:
    """Different held-out sentences."""
    world, rng = load_world(zoo.path("translate") / "world.json"), random.Random(seed)
    found: dict[str, Sentence] = {}
    while len(found) < count:
        sentence = world.draw(rng)
        if sentence.is_held_out:
            found.setdefault(sentence.source, sentence)
    return list(found.values())


def _claims(name: str, table: Evaluation) -> dict[str, bool]:
    metric = "comprehensiveness"
    return {
        f"{name}: {one} takes more from the target than chance ({metric})": (
            table[one, metric].mean > table[CHANCE, metric].mean
        )
        for one in TRUSTED
    }


def _below_chance(table: Evaluation) -> str:
    chance = table[CHANCE, "comprehensiveness"].mean
    below = [one for one in table.methods if table[one, "comprehensiveness"].mean < chance]
    return ", ".join(below) or "none"
