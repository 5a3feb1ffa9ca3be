"""What a run gave back: arrays by name, and what is known about them."""

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, final

import numpy as np

from interpd.errors import Interrupted
from interpd.graph.run import Cancelled, Cost, Done, Event, Generated, Provenance, Started, Tokens
from interpd.graph.run import Result as ResultEvent
from interpd_client.descriptions import described, summary
from interpd_client.html import result_html
from interpd_client.names import UnknownName, advice, nearest_names
from interpd_client.outputs import restore


class UnknownResult(KeyError):
    """A name under which nothing was saved."""

    def __str__(self) -> str:
        # KeyError shows its message quoted, as if it were the key
        return str(self.args[0])


@final
class Result(Mapping[str, Any]):
    """The results of a run: a mapping from saved names to numpy arrays.

    What was saved with structure comes back with it: ``result["top"].values`` for a top-k, lists for lists.
    bfloat16 comes back exactly, as float32.
    """

    def __init__(
        self, run_id: str, values: Mapping[str, Any], axes: Mapping[str, tuple[str, ...]], end: "Ending"
    ) -> None:
        self._run_id = run_id
        self._values = dict(values)
        self._axes = dict(axes)
        self._end = end

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            hint = advice(nearest_names(name, self._values)) or f"; there is {', '.join(self._values) or 'nothing'}"
            raise UnknownResult(f"nothing was saved as {name!r}{hint}")
        return self._values[name]

    def __getattr__(self, name: str) -> NoReturn:
        # only names that are no attribute come here
        saved = "" if name.startswith("_") or name not in self._values else f"; what was saved is `result[{name!r}]`"
        raise UnknownName(f"a result has no attribute {name!r}{saved}", name=name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    @property
    def run_id(self) -> str:
        """The name of the run."""
        return self._run_id

    @property
    def tokens(self) -> tuple[Tokens, ...]:
        """The tokens of each prompt: ids, strings, offsets, text."""
        return self._end.tokens

    @property
    def axes(self) -> Mapping[str, tuple[str, ...]]:
        """The axis words of each array by its flat name (``top.values``), ``""`` for a dimension without one."""
        return self._axes

    @property
    def provenance(self) -> Provenance:
        """Digest of the graph, revision of the model and versions: what is needed to run this again."""
        return self._end.done.provenance

    @property
    def cost(self) -> Cost:
        """Tokens, layers and passes that ran, bytes, milliseconds, and how many requests shared each pass."""
        return self._end.done.cost

    @property
    def generated(self) -> tuple[Generated, ...]:
        """The continuation of each prompt; empty without generation."""
        return self._end.done.generated

    @property
    def text(self) -> str:
        """The generated text of the only prompt. Raises ``ValueError`` where there are several or none."""
        return self._only().text

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The generated tokens of the only prompt. Raises ``ValueError`` where there are several or none."""
        return self._only().token_ids

    @property
    def non_finite(self) -> tuple[str, ...]:
        """Flat names of the results that hold NaN or infinity."""
        return self._end.done.non_finite

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the service wants the caller to know although it is no error."""
        return self._end.done.warnings

    def __repr__(self) -> str:
        lines = [f"  {name}: {described(value)}" for name, value in self._values.items()]
        lines += [f"  generated[{item.invoke}]: {item.text!r} ({item.stop_reason})" for item in self.generated]
        lines += [f"  non-finite: {', '.join(self.non_finite)}"] if self.non_finite else []
        lines += [f"  warning: {warning}" for warning in self.warnings]
        return "\n".join([f"Result of {self.provenance.model} ({summary(self.cost)})", *lines])

    def _repr_html_(self) -> str:
        return result_html(self)

    def _only(self) -> Generated:
        if len(self.generated) != 1:
            raise ValueError(f"the run continued {len(self.generated)} prompts; look at `result.generated`")
        return self.generated[0]


class Ending:
    """The tokens and the terminal event of a finished run."""

    def __init__(self, tokens: tuple[Tokens, ...], done: Done) -> None:
        self.tokens = tokens
        self.done = done


@final
class Collector:
    """Puts a result together from the events of a run.

    Args:
        saved: What was saved, with its structure; ``None``: results keep their flat names.
    """

    def __init__(self, saved: Mapping[str, object] | None = None) -> None:
        self._saved = saved
        self._tokens: tuple[Tokens, ...] = ()
        self._arrays: dict[str, np.ndarray] = {}
        self._axes: dict[str, tuple[str, ...]] = {}
        self._done: Done | None = None

    def feed(self, event: Event) -> None:
        """Takes one event in. Raises ``Interrupted`` for the end of a cancelled run."""
        match event:
            case Started():
                # a run that was sent again begins again
                self._tokens = event.tokens
                self._arrays.clear()
            case ResultEvent():
                self._arrays[event.name] = event.tensor.to_numpy()
                self._axes[event.name] = event.axes
            case Done():
                self._done = event
            case Cancelled():
                raise Interrupted(f"the run was cancelled while {event.stage}", stage=event.stage)
            case _:
                pass

    def result(self, run_id: str) -> Result:
        """The result of a run whose terminal event was fed."""
        assert self._done is not None
        values: dict[str, Any] = dict(self._arrays)
        if self._saved is not None:
            values = {name: restore(name, value, self._arrays) for name, value in self._saved.items()}
        return Result(run_id, values, self._axes, Ending(self._tokens, self._done))
