"""The scores of each generation step by themselves, as Inseq's ``output_step_attributions`` has them."""

from dataclasses import replace

import numpy as np

from interpd.errors import CallerError
from interpd_attribution.attribution import Attribution, Step


def stepped(attribution: Attribution) -> Attribution:
    """The result with ``step_attributions``, a step for each attributed token.

    Raises ``CallerError`` where columns are no tokens of the target, one behind the other.
    """
    n_columns = len(attribution.generated)
    if attribution.attr_pos_start + n_columns > len(attribution.target):
        raise CallerError("step attributions are of tokens that come one behind the other, which these columns are not")
    steps = tuple(_step(attribution, column) for column in range(n_columns))
    return replace(attribution, step_attributions=steps, info={**attribution.info, "output_step_attributions": True})


def _step(attribution: Attribution, column: int) -> Step:
    at = attribution.attr_pos_start + column
    return Step(
        prefix=attribution.target[:at],
        target=attribution.target[at],
        source_attributions=_column(attribution.source_attributions, column, None),
        target_attributions=_column(attribution.target_attributions, column, at),
        step_scores={name: float(scores[column]) for name, scores in attribution.step_scores.items()},
    )


def _column(scores: np.ndarray | None, column: int, n_rows: int | None) -> np.ndarray | None:
    return None if scores is None else scores[:n_rows, column]
