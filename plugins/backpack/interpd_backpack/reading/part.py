"""``model.backpack``: what senses say."""

from collections.abc import Sequence
from typing import Any

from interpd_backpack.reading import asking
from interpd_backpack.reading.asking import By
from interpd_backpack.reading.ranking import SenseRanking
from interpd_backpack.reading.senses import SenseWords
from interpd_backpack.reading.similarity import Similarity
from interpd_backpack.reading.specialisation import Specialisation
from interpd_backpack.texts import Text
from interpd_backpack.words import Pieces
from interpd_client import Model
from interpd_client.places import pass_over

# errors point at the line of the program that asked, not at one in here
pass_over(__file__)


class Reading:
    """Questions about the senses of words."""

    _model: Model

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
        return asking.senses(self._model, words, senses=senses, top=top, by=by, pieces=pieces, rank_of=rank_of, **run)

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
        return asking.reverse(self._model, word, against=against, top=top, by=by, scaled=scaled, pieces=pieces, **run)

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
        return asking.nearest(self._model, word, sense, top=top, by=by, pieces=pieces, **run)

    def similarity(
        self, pairs: Sequence[tuple[str | int, str | int]], *, pieces: Pieces = "refuse", **run: Any
    ) -> Similarity:
        """How alike pairs of words are: cosines by sense, their extremes, and over all pairs of senses.

        Args:
            pairs: Two words each.
            pieces: What is done with words of several tokens; the paper takes ``mean``.
            run: Options of requests.
        """
        return asking.similarity(self._model, pairs, pieces=pieces, **run)

    def specialisation(
        self,
        texts: Text | Sequence[Text] | None = None,
        *,
        words: Sequence[str | int] | None = None,
        top: int = 10,
        pieces: Pieces = "refuse",
        **run: Any,
    ) -> Specialisation:
        """How the senses divide the work, and which have collapsed.

        Args:
            texts: Texts on which the sense weights are looked at; left out: they are not. Texts that are longer than
                the model takes are read in pieces, and counted.
            words: Whose senses are looked at; ``None``: the most frequent tokens of the texts, or without texts tokens
                evenly over the vocabulary.
            top: Words of a sense that count for the overlap.
            pieces: What is done with words of several tokens.
            run: Options of requests.
        """
        return asking.specialisation(self._model, texts, words=words, top=top, pieces=pieces, **run)
