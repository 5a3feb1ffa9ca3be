"""The client's part: ``model.backpack``."""

from collections.abc import Sequence
from typing import Any

from interpd_backpack.asking import Write
from interpd_backpack.edits import Edit
from interpd_backpack.evaluation import Evaluation, Suite
from interpd_backpack.evaluation import evaluate as evaluated
from interpd_backpack.evaluation.suite import OnProgress
from interpd_backpack.explaining.part import Explaining
from interpd_backpack.finding.part import Finding
from interpd_backpack.reading.part import Reading
from interpd_backpack.variants.part import Varying
from interpd_client import Model
from interpd_client.places import pass_over

# errors point at the line of the program that asked, not at one in here
pass_over(__file__)


class Backpack(Reading, Explaining, Varying, Finding):
    """``model.backpack``: what the senses of words say, what they do in a text, and edits of them."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def evaluate(
        self,
        suite: Suite | str | Sequence[str] | None = None,
        *,
        edit: Edit | Write | None = None,
        on_progress: OnProgress | None = None,
        **data: Any,
    ) -> Evaluation:
        """What the model, or an edit of it, is worth: similarity, bias, topics, examples, perplexity, collateral.

        A part that fails costs no other: ``failures`` says why.

        Args:
            suite: A ``Suite`` of settings; or names of parts, whose data are given by name; ``None``: all parts whose
                data are given.
            edit: What the model is compared with: an edit, or a function that records writes.
            on_progress: Called with the part, how far it is, of how much, and what it counts.
            data: Fields of ``interpd_backpack.evaluation.Data``: ``pairs``, ``jobs``, ``bags``, ``examples``, ``task``,
                ``hard_negatives``, ``texts``, ``prompts``, ``sense``; and of the settings of the parts that are named,
                ``n_samples`` for instance.

        Raises:
            CallerError: What cannot be, before anything is computed.
        """
        return evaluated(self._model, suite, edit=edit, on_progress=on_progress, **data)
