"""The client's part: ``model.backpack``."""

from collections.abc import Sequence
from typing import Any

from interpd_backpack.asking import Write
from interpd_backpack.evaluation.examples import Criterion
from interpd_backpack.explaining import asking as explaining
from interpd_backpack.explaining.asking import Number, OnPartial, Where
from interpd_backpack.explaining.contributions import Contributions, Quantity
from interpd_backpack.explaining.over_texts import ContributionsOver
from interpd_backpack.finding import bias as finding
from interpd_backpack.finding.bias_results import BiasRanking, OptimalScale
from interpd_backpack.finding.cases import Side
from interpd_backpack.finding.finetuned import SenseFinetuning
from interpd_backpack.finding.finetuning import Examples
from interpd_backpack.finding.finetuning import finetune as finetuned
from interpd_backpack.reading import asking as reading
from interpd_backpack.reading.asking import By
from interpd_backpack.reading.ranking import SenseRanking
from interpd_backpack.reading.senses import SenseWords
from interpd_backpack.reading.similarity import Similarity
from interpd_backpack.reading.specialisation import Specialisation
from interpd_backpack.words import Pieces
from interpd_client import Model
from interpd_client.places import pass_over

# errors point at the line of the program that asked, not at one in here
pass_over(__file__)


class Backpack:
    """``model.backpack``: what the senses of words say, what they do in a text, and edits of them."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def senses(
        self,
        words: str | int | Sequence[str | int],
        *,
        senses: Sequence[int] = (),
        top: int = 10,
        by: By = "dot",
        pieces: Pieces = "refuse",
        rank_of: str | int | Sequence[str | int] = (),
        **run: Any,
    ) -> SenseWords:
        """The tokens that each sense of words says most and least: both ends, for usually only one means something.

        Args:
            words: One or several, see ``words.word``.
            senses: Which; empty: all.
            top: Tokens at each end.
            by: ``dot``: the logit that the sense adds at weight 1; ``cosine``: without the lengths.
            pieces: What is done with words of several tokens.
            rank_of: Words whose place among all tokens is told.
            run: Options of requests: ``timeout_s``, ``progress``, ``adapter``.
        """
        return reading.senses(self._model, words, senses=senses, top=top, by=by, pieces=pieces, rank_of=rank_of, **run)

    def reverse(
        self,
        word: str | int,
        *,
        against: str | int | None = None,
        top: int = 10,
        by: By = "dot",
        scaled: bool = False,
        pieces: Pieces = "refuse",
        **run: Any,
    ) -> SenseRanking:
        """The (token, sense) pairs of the whole vocabulary that push a word most and least.

        Args:
            word: The word that is predicted.
            against: Another one, whose logit is taken off.
            top: Pairs at each end, of all senses and of each.
            by: ``dot``: the logit that a sense adds at weight 1; ``cosine``: without the lengths.
            scaled: As shares of the most that each sense says of any token, as the paper's topic control has it.
            pieces: ``first`` or ``last`` for a word of several tokens.
            run: Options of requests.
        """
        return reading.reverse(self._model, word, against=against, top=top, by=by, scaled=scaled, pieces=pieces, **run)

    def nearest(
        self,
        word: str | int,
        sense: int,
        *,
        top: int = 10,
        by: By = "cosine",
        pieces: Pieces = "refuse",
        **run: Any,
    ) -> SenseRanking:
        """The senses of all tokens that are most and least like a sense of a word, which is left out itself."""
        return reading.nearest(self._model, word, sense, top=top, by=by, pieces=pieces, **run)

    def similarity(
        self, pairs: Sequence[tuple[str | int, str | int]], *, pieces: Pieces = "refuse", **run: Any
    ) -> Similarity:
        """How alike pairs of words are: cosines by sense, their extremes, and over all pairs of senses.

        Args:
            pairs: Two words each.
            pieces: What is done with words of several tokens; the paper takes ``mean``.
            run: Options of requests.
        """
        return reading.similarity(self._model, pairs, pieces=pieces, **run)

    def specialisation(
        self,
        texts: Sequence[str] = (),
        *,
        words: Sequence[str | int] | None = None,
        top: int = 10,
        pieces: Pieces = "refuse",
        **run: Any,
    ) -> Specialisation:
        """How the senses divide the work, and which have collapsed.

        Args:
            texts: Texts on which the sense weights are looked at; empty: they are not.
            words: Whose senses are looked at; ``None``: the most frequent tokens of the texts, or without texts tokens
                evenly over the vocabulary.
            top: Words of a sense that count for the overlap.
            pieces: What is done with words of several tokens.
            run: Options of requests.
        """
        return reading.specialisation(self._model, texts, words=words, top=top, pieces=pieces, **run)

    def contributions(
        self,
        prompt: Any,
        target: str | int | None = None,
        *,
        contrast: str | int | None = None,
        position: int = -1,
        quantity: Quantity | None = None,
        pieces: Pieces = "refuse",
        under: Write | None = None,
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
            under: Records writes that are in force, an edit for instance: ``lambda t: model.backpack.with_edit(t, e)``.
            run: Options of requests.

        Raises:
            CallerError: What cannot be, and parts that do not add up to the model's number.
        """
        number = Number(target, contrast, quantity, pieces)
        return explaining.contributions(self._model, prompt, number, position=position, under=under, **run)

    def contributions_over(
        self,
        texts: Sequence[str],
        target: str | int | None = None,
        *,
        contrast: str | int | None = None,
        position: Where = -1,
        quantity: Quantity | None = None,
        pieces: Pieces = "refuse",
        under: Write | None = None,
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
        return explaining.contributions_over(self._model, texts, number, on_partial=on_partial, **options, **run)

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
