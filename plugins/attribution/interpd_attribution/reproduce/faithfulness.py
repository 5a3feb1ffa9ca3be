"""Which method tells the truth on the bundled models: a table of methods and metrics for each of them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from interpd import zoo
from interpd.cli import Report
from interpd_attribution.evaluation import Evaluation, evaluate
from interpd_attribution.evaluation.metrics import METRICS as ABOUT
from interpd_attribution.reproduce.facts import draw
from interpd_attribution.zoo.translate.world import load_world
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
FEWEST = 8
"""Inputs of which a standard error says something."""


def compare_methods(models: Mapping[str, Model], report: Report, n_inputs: int) -> dict[str, bool]:
    """Adds the section to the report; what was claimed, and whether it was found.

    Args:
        models: ``facts`` and ``translate``.
        report: To add to.
        n_inputs: Of each model.
    """
    pairs = draw(models["facts"], n_inputs, seed=2)
    sentences = load_world(zoo.path("translate") / "world.json").held_out(n_inputs, seed=3)
    tables = {
        "facts": _table(models["facts"], [list(one.prompt) for one in pairs], [[one.true] for one in pairs]),
        "translate": _table(models["translate"], [one.source for one in sentences], [one.target for one in sentences]),
    }
    report.heading("(c) Which method tells the truth: faithfulness on both models")
    report.text(
        "Prompts of facts with their answers, and sentences that translate was never shown with all words of their "
        f"translations: {n_inputs} of each. The target is the probability, what is removed becomes the unknown token. "
        "Means over inputs, standard errors are in numbers.json; arrows say which way is better. *leave_one_out* is "
        "what the target loses without each token, and so are feature ablation and occlusion of single tokens. The "
        "paper has no such table."
    )
    found: dict[str, bool] = {}
    for name, table in tables.items():
        arrows = {"high": " ↑", "low": " ↓", "": ""}
        head = [f"{metric}{arrows[ABOUT[metric].better]}" for metric in METRICS]
        report.table((name, *head), [(one, *(f"{table[one, m].mean:.3f}" for m in METRICS)) for one in table.methods])
        report.text(_about_chance(table))
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


def _claims(name: str, table: Evaluation) -> dict[str, bool]:
    if table.values.shape[2] < FEWEST:
        return {}
    return {
        f"{name}: {one} takes more from the target than chance (comprehensiveness, by two standard errors)": (
            _gain(table, one) > 2
        )
        for one in TRUSTED
    }


def _gain(table: Evaluation, method: str) -> float:
    """By how many standard errors a method has more comprehensiveness than chance, input by input."""
    found = table.difference(method, CHANCE, "comprehensiveness")
    return found.mean / found.standard_error if found.standard_error else math.copysign(math.inf, found.mean)


def _about_chance(table: Evaluation) -> str:
    """Which methods are not to be told from random scores."""
    if table.values.shape[2] < FEWEST:
        return f"So few inputs ({table.values.shape[2]}) do not tell methods from chance."
    like = [one for one in table.methods if one != CHANCE and _gain(table, one) <= 2]
    return f"Not better than chance by two standard errors of the difference, in comprehensiveness: {_listed(like)}."


def _listed(names: Sequence[str]) -> str:
    return "; ".join(names) or "none"
