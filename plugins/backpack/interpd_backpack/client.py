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
from interpd_backpack.evaluation.examples import Criterion
from interpd_backpack.evaluation.suite import OnProgress
from interpd_backpack.explaining.part import Explaining
from interpd_backpack.finding import bias as finding
from interpd_backpack.finding.bias_results import BiasRanking, OptimalScale
from interpd_backpack.finding.cases import Side
from interpd_backpack.finding.finetuned import SenseFinetuning
from interpd_backpack.finding.finetuning import Examples
from interpd_backpack.finding.finetuning import finetune as finetuned
from interpd_backpack.reading.part import Reading
from interpd_backpack.variants import Variants, VariantToken
from interpd_backpack.variants import generate as continued
from interpd_backpack.variants.generating import Variant
from interpd_backpack.words import Pieces
from interpd_client import Model
from interpd_client.places import pass_over

# errors point at the line of the program that asked, not at one in here
pass_over(__file__)


class Backpack(Reading, Explaining, Editing):
    """``model.backpack``: what the senses of words say, what they do in a text, and edits of them."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def rank_bias(
        self,
        words: Sequence[str | int],
        prompts: Sequence[str],
        pair: tuple[Side, Side] = ("he", "she"),
        *,
        factor: float = 0.0,
        pieces: Pieces = "refuse",
        under: Write | None = None,
        **run: Any,
    ) -> BiasRanking:
        """Which sense of which word carries a bias: every sense of every word, scaled, from one forward pass.

        Args:
            words: Professions, for instance.
            prompts: Texts with ``{}`` where the word stands; what comes next is compared.
            pair: The two sides; each a word, or several whose probabilities are added.
            factor: What a sense is scaled by in the ranking: 0 removes it.
            pieces: What is done with words of several tokens; ``each`` scales all of them together.
            under: Records writes that are in force, an edit for instance.
            run: Options of requests.
        """
        options = {"factor": factor, "pieces": pieces, "under": under}
        return finding.rank_bias(self._model, words, prompts, pair, **options, **run)

    def optimal_scale(
        self,
        words: Sequence[str | int],
        prompts: Sequence[str],
        pair: tuple[Side, Side] = ("he", "she"),
        *,
        sense: int | None = None,
        test_prompts: Sequence[str] = (),
        penalty: float = 1.0,
        bounds: tuple[float, float] | None = None,
        **options: Any,
    ) -> OptimalScale:
        """The factor of a sense with the least bias, for each word, solved exactly, and the edit that has them.

        Args:
            words: Each gets a factor of its own.
            prompts: What the factors are chosen on, with ``{}`` where the word stands.
            pair: As in ``rank_bias``.
            sense: Which; ``None``: the one whose removal lowers the mean bias on ``prompts`` most.
            test_prompts: What the outcome is measured on; empty: on ``prompts``.
            penalty: On leaving 1; 1 as published, 0 for the least bias there is.
            bounds: Least and greatest factor.
            options: ``pieces`` and ``under``, as in ``rank_bias``, and options of requests.
        """
        how = {"sense": sense, "test_prompts": test_prompts, "penalty": penalty, "bounds": bounds}
        return finding.optimal_scale(self._model, words, prompts, pair, **how, **options)

    def finetune(
        self,
        examples: Examples,
        task: str | Criterion,
        *,
        background: Sequence[str],
        held_out: Sequence[str] = (),
        evaluation: Examples = (),
        hard_negatives: Examples = (),
        **options: Any,
    ) -> SenseFinetuning:
        """Sense finetuning from canonical examples (Hewitt et al. 2024): an edit, and what it does.

        Args:
            examples: What is to be learned: a JSON Lines file of ``{prefix, suffix}`` or ``{prefix, suffix1,
                suffix2}``, or such things.
            task: A task of the paper (``country``, ``company``, ``temporal``, ``stereoset``, ``gender``, ``syntax``),
                or a criterion of one's own: the loss, and below what it is a success.
            background: Texts on which predictions are to stay as they are.
            held_out: Texts that say whether the degradation ball is left; empty: the background.
            evaluation: Other examples of the same task, on which the outcome is measured.
            hard_negatives: Examples or texts that must not get worse.
            options: Fields of ``finding.settings.Settings`` (``selector``, ``radius``, ...); ``name``
                of the edit; ``checkpoint``, an artifact that is kept after each epoch, and ``resume``, one to go on
                from; ``under``, which records writes that are in force; ``on_epoch``, told the history after each
                epoch; options of requests.
        """
        given = {"held_out": held_out, "evaluation": evaluation, "hard_negatives": hard_negatives}
        return finetuned(self._model, examples, task, background=background, **given, **options)

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
