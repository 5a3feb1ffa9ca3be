"""Questions to a person at a terminal. They go to standard error, so that standard output has results only."""

import sys

from interpd.errors import InvalidRequest


class Terminal:
    """Who is asked what texts alone do not say; see ``interpd_attribution.pecore.Ask``."""

    @staticmethod
    def is_there() -> bool:
        """Whether somebody can be asked."""
        return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()

    def output_context(self, output: str, candidate: str | None) -> str:
        """The beginning of ``output`` that is its context."""
        sys.stderr.write(f"the model said: {output!r}\n")
        if candidate is not None and _answer(f"is {candidate!r} its context? [Y/n] ").lower() in ("", "y", "yes"):
            return candidate
        while True:
            given = _answer("which beginning of it is the context? (nothing: there is none) ")
            if output.startswith(given):
                return given
            sys.stderr.write("it does not begin so; letters and blanks count\n")

    def next_token(self, before: str, token: str) -> str:
        """What comes after ``before`` without contexts, instead of ``token``."""
        while not (given := _answer(f"{before!r} goes on with {token!r}; without the contexts? ")):
            sys.stderr.write("a word is needed, with the blank before it where the vocabulary has one\n")
        return given


def _answer(question: str) -> str:
    sys.stderr.write(question)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise InvalidRequest("the terminal was closed before the question was answered")
    return line.rstrip("\n")
