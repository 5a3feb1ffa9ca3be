"""``model.backpack``: edits that nobody has to think of."""

from collections.abc import Sequence
from typing import Any

from interpd_backpack.edits import Edit
from interpd_backpack.evaluation.examples import Criterion
from interpd_backpack.finding import bias
from interpd_backpack.finding.bias_results import BiasRanking, OptimalScale
from interpd_backpack.finding.cases import Side, Under
from interpd_backpack.finding.finetuned import SenseFinetuning
from interpd_backpack.finding.finetuning import Examples, Texts, finetune
from interpd_backpack.finding.transfer import BETAS, Transfer, transfer
from interpd_backpack.words import Pieces
from interpd_client import Model
from interpd_client.places import pass_over

# errors point at the line of the program that asked, not at one in here
pass_over(__file__)


class Finding:
    """Edits, found."""

    _model: Model

    def rank_bias(
        self,
        words: Sequence[str | int],
        prompts: Sequence[str],
        pair: tuple[Side, Side] = ("he", "she"),
        *,
        factor: float = 0.0,
        pieces: Pieces = "refuse",
        under: Under | None = None,
        **run: Any,
    ) -> BiasRanking:
        """Which sense of which word carries a bias: every sense of every word, scaled, from one forward pass.

        Args:
            words: Professions, for instance.
            prompts: Texts with ``{}`` where the word stands; what comes next is compared.
            pair: The two sides; each a word, or several whose probabilities are added.
            factor: What a sense is scaled by in the ranking: 0 removes it.
            pieces: What is done with words of several tokens; ``each`` scales all of them together.
            under: What is in force: an edit, or a function that records writes.
            run: Options of requests.
        """
        options = {"factor": factor, "pieces": pieces, "under": under}
        return bias.rank_bias(self._model, words, prompts, pair, **options, **run)

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
        return bias.optimal_scale(self._model, words, prompts, pair, **how, **options)

    def finetune(
        self,
        examples: Examples,
        task: str | Criterion,
        *,
        background: Texts,
        held_out: Texts = (),
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
            background: Texts on which predictions are to stay as they are, or a JSON Lines file of ``{text}``.
            held_out: Texts that say whether the degradation ball is left; empty: the background.
            evaluation: Other examples of the same task, on which the outcome is measured.
            hard_negatives: Examples or texts that must not get worse.
            options: Fields of ``finding.settings.Settings`` (``selector``, ``radius``, ...); ``name``
                of the edit; ``checkpoint``, an artifact that is kept after each epoch, and ``resume``, one to go on
                from; ``under``, an edit that is in force; ``on_epoch``, told the ``History`` so far after
                each epoch; options of requests.
        """
        given = {"held_out": held_out, "evaluation": evaluation, "hard_negatives": hard_negatives}
        return finetune(self._model, examples, task, background=background, **given, **options)

    def transfer(
        self,
        edit: Edit,
        large: Model,
        texts: Sequence[str],
        *,
        radius: float = 1e-4,
        betas: Sequence[float] = BETAS,
        **run: Any,
    ) -> Transfer:
        """How much of an edit a larger model with the same tokens bears (Hewitt et al. 2024, section 6).

        Its predictions are ``log p_large + beta (log p_edited - log p_unedited)``, which ``finding.transfer`` gives for
        prompts: ``transferred(predictions((model, large), edit, prompt), found.beta)``.

        Args:
            edit: Of this model.
            large: The larger model, of this daemon or another.
            texts: Held out; they say whether the degradation ball is left.
            radius: epsilon: by which share their NLL may grow.
            betas: Tried in this order; falling, as published.
            run: Options of requests.
        """
        return transfer((self._model, large), edit, texts, radius=radius, betas=betas, **run)
