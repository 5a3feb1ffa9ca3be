"""``model.backpack``: what predictions are made of."""

from collections.abc import Sequence
from typing import Any

from interpd_backpack.explaining import asking
from interpd_backpack.explaining.asking import Number, OnPartial, Under, Where
from interpd_backpack.explaining.contributions import Contributions, Quantity
from interpd_backpack.explaining.over_texts import ContributionsOver
from interpd_backpack.texts import Text
from interpd_backpack.words import Pieces
from interpd_client import Model
from interpd_client.places import pass_over

# errors point at the line of the program that asked, not at one in here
pass_over(__file__)


class Explaining:
    """Questions about predictions."""

    _model: Model

    def contributions(
        self,
        prompt: Any,
        target: str | int | None = None,
        *,
        contrast: str | int | None = None,
        position: int = -1,
        quantity: Quantity | None = None,
        pieces: Pieces = "refuse",
        under: Under | None = None,
        **run: Any,
    ) -> Contributions:
        """What each sense of each token of a prompt adds to a prediction: exact, with the residual as the proof.

        Args:
            prompt: Text, token ids or chat messages.
            target: The word that is predicted; ``None``: the most likely token.
            contrast: Another word: the difference of the two logits is taken apart.
            position: The position that predicts, counted from the end where it is negative.
            quantity: ``logit``, ``difference`` (with ``contrast``) or ``log_probability``, the logit less the mean
                logit under the prediction, since all tokens' logits may rise together.
            pieces: ``first`` or ``last`` for a word of several tokens.
            under: What is in force: an edit, or a function that records writes in a trace.
            run: Options of requests.

        Raises:
            CallerError: What cannot be, and parts that do not add up to the model's number.
        """
        number = Number(target, contrast, quantity, pieces)
        return asking.contributions(self._model, prompt, number, position=position, under=under, **run)

    def contributions_over(
        self,
        texts: Sequence[Text],
        target: str | int | None = None,
        *,
        contrast: str | int | None = None,
        position: Where = -1,
        quantity: Quantity | None = None,
        pieces: Pieces = "refuse",
        under: Under | None = None,
        on_partial: OnPartial | None = None,
        **run: Any,
    ) -> ContributionsOver:
        """Which senses of which tokens make predictions, over many texts.

        Args:
            texts: The prompts.
            target: The word that is predicted; ``None``: the token that comes with ``position="all"``, otherwise the
                most likely one.
            contrast: As for ``contributions``.
            position: Of each text the position that predicts; ``"all"`` but the last; ``"before_target"``: wherever
                the target comes next.
            quantity: As for ``contributions``.
            pieces: As for ``contributions``.
            under: As for ``contributions``.
            on_partial: Called with ``types``, ``sums`` and ``counts`` so far.
            run: Options of requests.
        """
        number, options = Number(target, contrast, quantity, pieces), {"position": position, "under": under}
        return asking.contributions_over(self._model, texts, number, on_partial=on_partial, **options, **run)
