"""``model.backpack``: texts under several edits, what edits do to predictions, and topics."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from interpd_backpack.edits import Edit
from interpd_backpack.edits.part import Editing
from interpd_backpack.effects import Effects
from interpd_backpack.effects import effects as effects_of
from interpd_backpack.effects.asking import Where
from interpd_backpack.topics import TopicTable
from interpd_backpack.topics import peaks as peaks_of
from interpd_backpack.topics import topic as topic_of
from interpd_backpack.topics.asking import NAME
from interpd_backpack.variants.continuations import Variants
from interpd_backpack.variants.generating import Variant, VariantToken, generate
from interpd_backpack.words import Pieces
from interpd_client.places import pass_over

# errors point at the line of the program that asked, not at one in here
pass_over(__file__)


class Varying(Editing):
    """Questions about what edits do to texts."""

    def generate(
        self,
        prompts: Any,
        edits: Variant | Sequence[Variant] | Mapping[str, Variant] = None,
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
                that they are given (``lambda p: ...``): one, a list, or a mapping of names of your own.
            max_new_tokens: For each.
            on_token: Called with each token as it comes.
            options: Of ``model.generate``: ``do_sample``, ``temperature``, ``top_p``, ``seed``, ``stop_strings``, ...
                Without ``seed`` one is drawn, and told in the result.

        Raises:
            CallerError: No variants, two of one name, or what is none.
        """
        return generate(
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
        position: Where = -1,
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
            run: Options of requests.

        Raises:
            CallerError: A word, position or edit that cannot be.
        """
        given = {"targets": targets, "position": position, "top": top, "pieces": pieces}
        return effects_of(self._model, prompts, edits, only_logits=only_logits, **given, **run)

    def topic(
        self,
        bag: str | int | Sequence[str | int],
        *,
        strength: int | Sequence[float] = 1,
        formula: Literal["code", "paper"] = "code",
        quantiles: Sequence[float] | None = None,
        top: int = 20,
        pieces: Pieces = "refuse",
        **run: Any,
    ) -> TopicTable:
        """How much every sense of every token speaks for a bag of words, and its factor in topic control.

        Args:
            bag: Words of the topic.
            strength: 0 to 3, the published ones, or factors, the highest band first.
            formula: Scores over the largest logit of a sense (``code``) or the largest absolute one (``paper``).
            quantiles: Of all scores, where bands begin; the published ones when left out.
            top: How many of the senses that speak most are told.
            pieces: ``first``, ``last`` or ``each`` for words of several tokens.
            run: Options of requests.

        Raises:
            CallerError: Words, strengths or quantiles that cannot be.
        """
        given = {"strength": strength, "formula": formula, "quantiles": quantiles, "top": top, "pieces": pieces}
        return topic_of(self._model, bag, **given, **run)

    def peaks(self, name: str = NAME, **run: Any) -> str:
        """The name of the largest logits of all senses, by which topic scores are divided.

        They are computed at the first call, the whole of ``E C``, and kept as an artifact while the model is loaded:
        whatever scores a topic from then on, edits included, takes them.
        """
        return peaks_of(self._model, name, **run)
