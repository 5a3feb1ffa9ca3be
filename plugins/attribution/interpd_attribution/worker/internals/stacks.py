"""Which sites the methods of internals need, and how a model's modules stand to them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from interpd.sdk import CallerError, Session
from interpd_attribution.worker.problem import Problem


@dataclass(frozen=True)
class Stack:
    """The layers of one side of the model."""

    session: Session
    side: str
    """``""``, ``"encoder."`` or ``"decoder."``: what the names of its sites begin with."""
    n_layers: int

    def site(self, layer: int, name: str) -> str:
        """The name of a layer's site."""
        return f"{self.side}layers.{layer}.{name}"

    def require(self, method: str, *names: str) -> None:
        """Raises ``CallerError`` where a layer has not one of the sites."""
        for layer in range(self.n_layers):
            for name in names:
                if (site := self.site(layer, name)) not in self.session.sites:
                    info = self.session.info
                    raise CallerError(
                        f"{method} needs {site!r}, which model {info.name!r} ({info.architecture}) has not; "
                        "`interpd sites` says why"
                    )

    @property
    def last(self) -> str:
        """The last site of the stream: the output of the final norm, or of the last layer where there is none."""
        norm = f"{self.side}ln_final"
        return norm if norm in self.session.sites else self.site(self.n_layers - 1, "resid_post")


def encoder_of(session: Session) -> Stack | None:
    """The encoder; ``None`` for a decoder-only model."""
    n_layers = session.info.n_encoder_layers
    return Stack(session, "encoder.", n_layers) if session.info.has_encoder else None


def decoder_of(session: Session) -> Stack:
    """The decoder, or all of a decoder-only model."""
    info = session.info
    return Stack(session, "decoder." if info.has_encoder else "", info.n_layers - info.n_encoder_layers)


def module_at(session: Session, site: str, port: str) -> str | None:
    """The module whose ``port`` (``input``, ``output``) is at the place of a site; ``None``: there is none."""
    order = session.sites[site].order
    ending = f".{port}"
    for name, schema in session.sites.items():
        if schema.order == order and not schema.canonical and name.endswith(ending):
            return name.removesuffix(ending)
    return None


def watch(problem: Problem, listeners: Mapping[str, Sequence[Callable[[Tensor], None]]], until: str) -> Tensor:
    """The value of ``until``, from one pass; listeners are told the value at their site as the pass goes by.

    Nothing is held for them: what a listener makes of a value may be smaller. Where the pass has to be run again they
    are told again, from the first site on.
    """

    def unchanged(told: Sequence[Callable[[Tensor], None]]) -> Callable[[Tensor], Tensor]:
        def edit(value: Tensor) -> Tensor:
            for tell in told:
                tell(value)
            return value

        return edit

    edits = {site: unchanged(told) for site, told in listeners.items()}
    return problem.model.run(problem.context, 1, edits, reads=[until])[until]
