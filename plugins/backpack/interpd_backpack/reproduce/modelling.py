"""Language modelling: a Backpack beside the transformer inside it (Hewitt et al. 2023, section 4)."""

from interpd.cli import Report
from interpd_backpack.evaluation import Chart, PerplexitySettings, Suite, evaluate
from interpd_backpack.evaluation.charts import svg
from interpd_backpack.reproduce.bundled import Bundled

PAPER = {"Micro": (31.5, 34.4), "Mini": (23.5, 24.5), "Small": (20.1, 20.2)}
"""Perplexity on OpenWebText of the Backpack and of its transformer, by size (Table 2)."""


def reproduce_perplexity(both: Bundled, report: Report) -> dict[str, bool]:
    """Adds the section; what is claimed, and whether it holds."""
    settings = Suite(perplexity=PerplexitySettings(documents=both.held_out[: both.size.n_texts]))
    found = {model: evaluate(model, settings)["perplexity"].before for model in (both.backpack, both.twin)}
    backpack, twin = found.values()
    rows = [
        ("here: parameters", *(f"{model.info.n_parameters:,}" for model in found)),
        ("here: perplexity", f"{backpack:.2f}", f"{twin:.2f}"),
        *((f"paper, {name}: perplexity", *pair) for name, pair in PAPER.items()),
    ]
    report.heading("Language modelling")
    report.text(
        f"Perplexity of {both.size.n_texts} texts that training never showed. Both models have the same transformer; "
        "the Backpack's only weighs senses, the twin's speaks by itself. In the paper both are equally good, too, or "
        "the Backpack is a little better, with the senses' parameters on top."
    )
    report.table(("", "Backpack", "transformer"), rows)
    bars = {"Backpack": [backpack, *(one for one, _ in PAPER.values())]}
    bars["transformer"] = [twin, *(other for _, other in PAPER.values())]
    labels = ("here", *(f"paper, {name}" for name in PAPER))
    report.figure("perplexity", svg(Chart("perplexity", labels, bars)), "perplexities here and in the paper")
    report.numbers["perplexity"] = {"backpack": backpack, "twin": twin, "paper": PAPER}
    return {"the Backpack predicts as well as its transformer, as in the paper (within 3 %)": backpack < 1.03 * twin}
