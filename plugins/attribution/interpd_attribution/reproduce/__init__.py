"""Results of papers, computed again on the bundled models: ``interpd reproduce attribution``."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interpd.cli import Reproduction


def attribution(asked: "Reproduction") -> None:
    """the case studies of the Inseq paper, and a table of methods: gender bias, facts, faithfulness

    Writes ``report.md``, its figures and ``numbers.json``. With ``--address`` the daemon serves ``facts`` and
    ``translate`` with the plugin ``attribution``.
    """
    from interpd.cli import Report
    from interpd_attribution.reproduce.faithfulness import compare_methods
    from interpd_attribution.reproduce.gender import gender_bias
    from interpd_attribution.reproduce.tracing import trace_facts

    report = Report("Attribution: results of papers on models whose truth is known")
    n_occupations, n_facts, n_inputs = (8, 6, 1) if asked.is_quick else (48, 80, 16)
    with asked.client("facts", "translate", plugins=("attribution",)) as client:
        facts, translate = client.model("facts"), client.model("translate")
        gender_bias(translate, report, n_occupations)
        trace_facts(facts, report, n_facts)
        compare_methods({"facts": facts, "translate": translate}, report, n_inputs)
    report.save(asked.out)
    report.text(f"written to {asked.out}")
