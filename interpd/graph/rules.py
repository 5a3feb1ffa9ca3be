"""Validity as a table. Rules run from top to bottom: size, then single nodes, then types, then flow."""

from interpd.graph import rules_flow as flow
from interpd.graph import rules_nodes as nodes
from interpd.graph import rules_recomputed as recomputed
from interpd.graph import rules_request as request
from interpd.graph import rules_types as types
from interpd.graph.subject import Rule

RULES: tuple[Rule, ...] = (
    Rule(("LIMIT",), request.too_large, final=True),
    Rule(("BAD_PROMPT",), request.bad_prompts),
    Rule(("UNKNOWN_ADAPTER",), request.unknown_adapter),
    Rule(("LIMIT",), request.too_many_tokens),
    Rule(("BAD_GENERATION",), request.bad_generation),
    Rule(("UNKNOWN_OP", "OP_VERSION"), nodes.unknown_operations),
    Rule(("BAD_PROMPT",), nodes.bad_invokes),
    Rule(("DANGLING_REFERENCE", "FORWARD_REFERENCE", "CYCLE"), nodes.bad_references),
    Rule(("PORT_MISMATCH",), nodes.bad_inputs),
    Rule(("BAD_PARAM", "UNKNOWN_ARTIFACT"), nodes.bad_params),
    Rule(
        ("UNKNOWN_SITE", "ABSENT_SITE", "NOT_WRITABLE", "UNKNOWN_MODULE", "UNKNOWN_PARAMETER", "UNSUPPORTED"),
        nodes.unknown_places,
    ),
    Rule(("BAD_STEPS",), nodes.bad_steps),
    Rule(("UNSUPPORTED",), flow.unsupported_in_generation),
    Rule(("PORT_MISMATCH", "BAD_PARAM", "POSITION_OUT_OF_RANGE", "BAD_TARGET", "LIMIT"), types.mismatches),
    Rule(("BAD_OUTPUT", "DANGLING_REFERENCE"), request.bad_outputs),
    Rule(("SITE_ORDER", "BAD_STEPS"), flow.impossible_orders),
    Rule(("BAD_STEPS",), flow.steps_across_prompts),
    Rule(("BAD_STEPS",), flow.varying_steps),
    Rule(("UNSUPPORTED",), flow.prompts_without_rows),
    Rule(("BAD_TARGET",), flow.bad_targets),
    Rule(("PORT_MISMATCH",), recomputed.not_recomputable),
    Rule(("UNUSED_NODE",), flow.without_effect),
)
"""Every rule of validity. (What a request would cost is compared with the limits once it is known to be valid.)"""
