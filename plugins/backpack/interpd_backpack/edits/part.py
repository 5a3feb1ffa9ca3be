"""``model.backpack``: edits, made of words, put in force and tried out."""

from collections.abc import Sequence
from typing import Any

from interpd_backpack.edits import asking
from interpd_backpack.edits.asking import OnConflict
from interpd_backpack.edits.dry_run import DryRun
from interpd_backpack.edits.edit import Edit
from interpd_backpack.edits.operations import Operation
from interpd_backpack.words import Pieces
from interpd_client import Model, PromptTrace
from interpd_client.places import pass_over

# errors point at the line of the program that asked, not at one in here
pass_over(__file__)


class Editing:
    """Edits of senses."""

    _model: Model

    def edit(
        self, *operations: Operation, name: str = "", pieces: Pieces = "refuse", on_conflict: OnConflict = "warn"
    ) -> Edit:
        """An edit of this model: operations of ``interpd_backpack.edits``, which may name words. Nothing changes yet.

        Args:
            operations: In the order in which they act.
            name: What it is called; what it does when left out.
            pieces: For words of several tokens: ``refuse``, ``first``, ``last`` or ``each``, all of them. The tokens
                that were taken stand in ``edit.describe()``.
            on_conflict: ``warn`` of operations that do something else in another order, ``refuse`` or ``allow`` them.

        Raises:
            CallerError: What cannot be, a word of several tokens among it.
        """
        return asking.build(self._model, operations, name=name, pieces=pieces, on_conflict=on_conflict)

    def with_edit(self, t: PromptTrace, edit: Edit) -> None:
        """Puts an edit in force in a prompt of a trace or a generation, at the prompt's tokens and at new ones.

        The edit is uploaded and compiled at its first use. Everybody else's rows, and other prompts of the trace, stay
        as they are.

        Args:
            t: A trace of one prompt, or one of the prompts of a trace.
            edit: Of this model.

        Raises:
            CallerError: An edit of another model, one under an adapter, or a second one in the same prompt: put them
                together, ``a + b``.
        """
        asking.put_in_force(self._model, t, edit)

    def dry_run(
        self,
        edit: Edit,
        *,
        words: str | int | Sequence[str | int] = (),
        top: int = 5,
        pieces: Pieces = "refuse",
        **run: Any,
    ) -> DryRun:
        """The words that each sense speaks more for and more against under an edit, without a text.

        Args:
            edit: Of this model.
            words: Whose senses are looked at; none: those that the edit names as changed.
            top: Words at each end.
            pieces: What is done with words of several tokens.
            run: Options of requests.
        """
        return asking.dry_run(self._model, edit, words=words, top=top, pieces=pieces, **run)
