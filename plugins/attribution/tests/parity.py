"""The parity matrix: each thing that Inseq 0.7.1 does, each that goes beyond it, and the test that shows it here.

    python plugins/attribution/tests/parity.py      writes ``plugins/attribution/PARITY.md``

``parity.json`` has the cells that are registered nowhere; methods, step functions, aggregators, metrics, options of
commands and calls are taken from where they are registered. ``test_parity_matrix.py`` looks that the page is what this
says and that the tests exist.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from interpd_attribution import inseq_shim
from interpd_attribution.aggregation import list_aggregation_functions, list_aggregators
from interpd_attribution.evaluation.metrics import METRICS
from interpd_attribution.inseq_words import METHODS
from interpd_attribution.worker.registry import OURS
from interpd_attribution.worker.scoring.registry import step_functions

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "PARITY.md"

CLASSES = "test_inseq_shim.py::test_inseqs_classes_of_aggregators_are_names"
GOLDEN = "worker/test_golden.py::test_numbers_are_inseqs"
SHIM = "test_inseq_shim.py::test_every_call_has_inseqs_numbers"
ATTENTION = "worker/test_internals_attention.py::test_attention_is_inseqs"
ZEROING = "worker/test_internals_attention.py::test_value_zeroing_is_inseqs"
AGGREGATED = "test_parity_of_aggregation.py::test_every_call_of_aggregate_gives_the_numbers_of_inseq"
OPTIONS = "commands/test_inseq_options.py::test_every_option_of_inseq_is_known_with_every_kind_of_value"
BOTH_WAYS = "test_step_functions.py::test_a_target_loses_the_difference_of_two_scores"
DROPOUT = "worker/test_scoring.py::test_dropout_is_a_score_and_a_target_and_leaves_the_model_as_it_was"
RESULTS = "test_inseq_shim.py::test_results_take_inseqs_options"


@dataclass(frozen=True)
class Cell:
    """One thing to do."""

    item: str
    """Of the specification: ``P-01``."""
    what: str
    test: str = ""
    """Where it is shown; none where it is not there."""
    note: str = ""
    """What differs, or why it is not there."""


OF_INSEQS_METHODS = {
    **dict.fromkeys(METHODS, GOLDEN),
    "gradient_shap": "worker/test_golden.py::test_gradient_shap_is_inseqs_at_its_places",
    "layer_integrated_gradients": "worker/test_captum.py::test_numbers_are_captums",
    "layer_deeplift": "worker/test_layers.py::test_a_difference_from_a_counterfactual_prompt_is_attribution_patching",
    "attention": ATTENTION,
    "value_zeroing": ZEROING,
    "lime": "worker/test_perturbation_surrogates.py::test_lime_is_a_weighted_ridge_on_random_masks",
    "reagent": "worker/test_perturbation_reagent.py::test_scores_are_those_of_the_algorithm",
    "dummy": "worker/test_internals_attention.py::test_dummy_gives_step_scores_alone",
}
NOTES_OF_METHODS = {
    "deeplift": "called `gradient_x_difference`, which it is (X-07)",
    "layer_deeplift": "called `layer_gradient_x_difference`",
    "layer_integrated_gradients": "Captum's numbers; Inseq's are zero",
    "lime": "as published, not as Inseq has it (X-06)",
    "reagent": "as published; replacements that need no download (X-19)",
}

BEYOND = {
    "gradient_x_difference": "worker/test_gradients.py::test_gradient_x_difference_is_one_step_at_the_input",
    "layer_gradient_x_difference": (
        "worker/test_layers.py::test_a_difference_from_a_counterfactual_prompt_is_attribution_patching"
    ),
    "expected_gradients": "worker/test_gradients.py::test_expected_gradients_take_each_baseline_equally_often",
    "smoothgrad": "worker/test_gradients.py::test_noise_averages_to_the_gradient_as_it_vanishes",
    "squaregrad": "worker/test_gradients.py::test_variance_is_mean_square_less_squared_mean",
    "vargrad": "worker/test_gradients.py::test_variance_is_mean_square_less_squared_mean",
    "layer_conductance": "worker/test_layers.py::test_conductance_adds_up_to_the_change_where_all_of_it_comes_by",
    "internal_influence": "worker/test_captum.py::test_numbers_are_captums",
    "feature_ablation": "worker/test_perturbation_games.py::test_numbers_are_captums",
    "shapley_values": "worker/test_perturbation_games.py::test_exact_shapley_values_are_the_mean_over_all_orders",
    "shapley_value_sampling": (
        "worker/test_perturbation_games.py::test_sampled_shapley_values_are_as_far_off_as_they_say"
    ),
    "kernel_shap": "worker/test_perturbation_surrogates.py::test_kernel_shap_of_all_coalitions_is_exact",
    "context_cite": "worker/test_perturbation_surrogates.py::test_context_cite_is_the_lasso_of_log_odds",
    "attention_norms": "worker/test_internals_norms.py::test_lengths_are_those_of_weighted_values",
    "attention_rollout": "worker/test_internals_rollout.py::test_rollout_is_the_product_of_layers",
    "attention_flow": "worker/test_internals_rollout.py::test_flow_is_the_maximum_flow",
    "alti": "worker/test_internals_logit.py::test_alti_is_the_product_of_contributions",
    "direct_logit_attribution": "worker/test_internals_logit.py::test_parts_add_up_to_the_logit",
    "alti_logit": "worker/test_internals_logit.py::test_alti_logit_is_what_layers_add_traced_back",
    "alti_logit_layers": "worker/test_internals_logit.py::test_alti_logit_is_what_layers_add_traced_back",
}
"""Methods that Inseq has not."""

CALLS = {
    "list_aggregation_functions": "test_inseq_shim.py::test_lists_are_inseqs",
    "list_aggregators": "test_inseq_shim.py::test_lists_are_inseqs",
    "list_feature_attribution_methods": "test_inseq_shim.py::test_lists_are_inseqs",
    "list_step_functions": "test_inseq_shim.py::test_lists_are_inseqs",
    "list_supported_frameworks": "test_inseq_shim.py::test_lists_are_inseqs",
    "explain": "test_inseq_shim.py::test_names_are_explained",
    "load_model": "test_inseq_shim.py::test_loading_is_checked",
    "AttributionModel": SHIM,
    "FeatureAttributionOutput": "test_inseq_shim.py::test_files_of_inseq_are_loaded",
    "FeatureAttributionSequenceOutput": RESULTS,
    "merge_attributions": RESULTS,
    "show_attributions": RESULTS,
    "show_granular_attributions": RESULTS,
    "show_token_attributions": RESULTS,
    "register_step_function": "test_inseq_shim.py::test_functions_of_this_process_are_refused",
    "register_model_config": "test_inseq_shim.py::test_functions_of_this_process_are_refused",
}


def cells() -> Iterator[Cell]:
    """The whole matrix."""
    for name, test in OF_INSEQS_METHODS.items():
        yield Cell("P-01", f"`{name}`", test, NOTES_OF_METHODS.get(name, ""))
    for name in step_functions():
        test = DROPOUT if name == "mc_dropout_prob_avg" else BOTH_WAYS
        yield Cell("P-02", f"`{name}` as a score", test)
        yield Cell("P-02", f"`{name}` as a target", test)
    for name in list_aggregators():
        is_pair = name in ("pair", "slices")
        other = "test_parity_of_aggregation.py::test_pairs_slices_and_weights_give_the_numbers_of_inseq"
        yield Cell("P-07", f"aggregator `{name}`", other if is_pair else AGGREGATED)
    yield from (Cell("P-07", f"function `{name}`", AGGREGATED) for name in list_aggregation_functions())
    for command, options in json.loads((HERE / "golden" / "options.json").read_text()).items():
        yield from (Cell("P-11", f"`{command} {option}`", OPTIONS) for option in options)
    yield from (Cell(**row) for row in json.loads((HERE / "parity.json").read_text()))
    yield from (Cell("B-07", f"`{name}`", test) for name, test in BEYOND.items())
    for name in METRICS:
        yield Cell("B-08", f"`{name}`", *_of_metric(name))
    yield Cell(
        "B-08",
        "a table in one call",
        "evaluation/test_running.py::test_a_table_over_methods_and_inputs_is_what_each_alone_says",
    )
    for name in inseq_shim.__all__:
        is_class = name.endswith(("Aggregator", "Pipeline"))
        note = "refused: an entry point, or a value of the graph" if name == "register_step_function" else ""
        yield Cell("Calls", f"`{name}`", CLASSES if is_class else CALLS[name], note)


def _of_metric(name: str) -> tuple[str]:
    of = {
        "max_sensitivity": "test_running.py::test_max_sensitivity_is_the_largest_relative_change_by_noise",
        "randomization": "test_running.py::test_randomization_is_the_rank_correlation_with_redrawn_weights",
    }
    if name in of:
        return (f"evaluation/{of[name]}",)
    return ("worker/test_evaluation.py::test_metrics_are_what_their_definitions_say",)


def ours() -> set[str]:
    """The ids of the methods of this package."""
    return {one.__name__ for one in OURS}


def page() -> str:
    """The text of ``PARITY.md``."""
    rows = sorted(cells(), key=lambda cell: (cell.item == "Calls", cell.item[0] == "B", cell.item))
    shown = sum(bool(cell.test) and not cell.note.startswith("refused") for cell in rows)
    said = [
        "# Inseq and beyond, cell by cell",
        "",
        "Written by `tests/parity.py`; a test compares it with the tests and with what is registered. P: what Inseq",
        "0.7.1 does. B: what goes beyond it. What is not copied of Inseq is in `tests/test_peer_bugs.py`.",
        "",
        f"{shown} of {len(rows)} cells are there; the others are refused, with the way out, or are not there.",
        "",
        "| | cell | test | |",
        "|---|---|---|---|",
    ]
    said += [f"| {cell.item} | {cell.what} | {cell.test or 'none'} | {cell.note} |" for cell in rows]
    return "\n".join(said) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
