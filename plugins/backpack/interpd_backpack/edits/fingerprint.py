"""Which model an edit is meant for."""

from dataclasses import dataclass

from interpd.errors import CallerError
from interpd.graph.schema import ModelInfo

UNKNOWN = "unknown"
"""The revision of models that were made in the caller's own process."""


@dataclass(frozen=True)
class Fingerprint:
    """What an edit has to know of its model: ids, senses and vectors mean nothing in another one."""

    revision: str
    """Hub commit, or ``sha256:...`` of the weights; empty: not known."""
    n_tokens: int
    n_senses: int
    d_model: int

    def problem(self, other: "Fingerprint") -> str:
        """Why an edit of this model cannot be used on ``other``; empty when it can."""
        for name, own, found in (
            ("vocabulary", self.n_tokens, other.n_tokens),
            ("number of senses", self.n_senses, other.n_senses),
            ("d_model", self.d_model, other.d_model),
            ("revision", self.revision, other.revision),
        ):
            if own != found and (own or name != "revision"):
                return f"its {name} is {own}, the model's is {found or 'not known'}"
        return ""


def fingerprint(info: ModelInfo) -> Fingerprint:
    """That of a resident model. Raises ``CallerError`` when it has no senses."""
    if "sense" not in info.sizes:
        raise CallerError(f"the model {info.name!r} has no senses to edit: it is no Backpack")
    revision = "" if info.revision == UNKNOWN else info.revision
    return Fingerprint(revision, info.sizes["d_vocab"], info.sizes["sense"], info.sizes["d_model"])
