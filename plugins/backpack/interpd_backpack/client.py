"""The client's part: ``model.backpack``."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from interpd_backpack.asking import Write
from interpd_backpack.edits import Edit
from interpd_backpack.edits.part import Editing
from interpd_backpack.effects import Effects
from interpd_backpack.effects import effects as effects_of
from interpd_backpack.effects.asking import Where as Positions
from interpd_backpack.evaluation import Evaluation, Suite
from interpd_backpack.evaluation import evaluate as evaluated
from interpd_backpack.evaluation.suite import OnProgress
from interpd_backpack.explaining.part import Explaining
from interpd_backpack.finding.part import Finding
from interpd_backpack.reading.part import Reading
from interpd_backpack.variants import Variants, VariantToken
from interpd_backpack.variants import generate as continued
from interpd_backpack.variants.generating import Variant
from interpd_backpack.words import Pieces
from interpd_client import Model
from interpd_client.places import pass_over

# errors point at the line of the program that asked, not at one in here
pass_over(__file__)


class Backpack(Reading, Explaining, Editing, Finding):
    """``model.backpack``: what the senses of words say, what they do in a text, and edits of them."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def generate(
        self,
        prompts: Any,
        edits: Sequence[Variant] | Mapping[str, Variant] = (None,),
        *,
        max_new_tokens: int,
        on_token: Callable[[VariantToken], object] | None = None,
        **options: Any,
    ) -> Variants:
        """Each prompt continued under each edit, side by side, in one request: equal prompts share their prefill.

        The variants of a prompt draw the same random numbers, so that they differ by their edits and not by chance.

        Args:
            prompts: A prompt, or a list of texts.
            edits: Edits, ``None`` for the model as it is, and functions that record writes in the prompt of a trace
                that they are given (``lambda p: ...``); or all of these by names of your own.
            max_new_tokens: For each.
            on_token: Called with each token as it comes.
            options: Of ``model.generate``: ``do_sample``, ``temperature``, ``top_p``, ``seed``, ``stop_strings``, ...
                Without ``seed`` one is drawn, and told in the result.

        Raises:
            CallerError: No variants, two of one name, or what is none.
        """
        return continued(
            self._model,
            prompts,
            edits,
            put_in_force=self.with_edit,
            max_new_tokens=max_new_tokens,
            on_token=on_token,
            **options,
        )

    def effects(
        self,
        prompts: Any,
        edits: Edit | Sequence[Edit],
        *,
        targets: str | int | Sequence[str | int] = (),
        position: Positions = -1,
        top: int = 10,
        pieces: Pieces = "refuse",
        only_logits: bool = False,
        **run: Any,
    ) -> Effects:
        """Predictions before and after each of many edits, all from one forward pass over the prompts.

        On prompts that an edit should leave alone it is the dry run of its collateral: ``.collateral()``.

        Args:
            prompts: A prompt, or a list of texts (or of lists of token ids).
            edits: One or several; any of the edit language.
            targets: Words whose logits and log-probabilities are told; ``"all"``: the whole vocabulary.
            position: Behind which the next token is predicted; several, or ``"all"``.
            top: How many of the tokens that move most are told.
            pieces: ``first`` or ``last`` for targets of several tokens.
            only_logits: Logits of targets and nothing else, for which no other token is looked at: for edits by the
                thousand.
            run: Options of requests, and ``peaks``: the name that ``peaks`` gave, for edits with topics.

        Raises:
            CallerError: A word, position or edit that cannot be.
        """
        given = {"targets": targets, "position": position, "top": top, "pieces": pieces}
        return effects_of(self._model, prompts, edits, only_logits=only_logits, **given, **run)

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
                ``hard_negatives``, ``texts``, ``prompts``, ``sense``.

        Raises:
            CallerError: What cannot be, before anything is computed.
        """
        return evaluated(self._model, suite, edit=edit, on_progress=on_progress, **data)
