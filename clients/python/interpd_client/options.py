"""Options of runs and generations, as keywords."""

from collections.abc import Iterable, Mapping
from typing import TypedDict

from interpd.graph.ir import Generation
from interpd_client.names import advice, nearest_names


class RunOptions(TypedDict, total=False):
    """How a request runs."""

    timeout_s: float | None
    """Seconds until the run is given up, queueing included. Default: that of the client."""
    keep_s: float
    """Seconds that the run and its results outlive a lost connection. Default 0: the run ends with the connection."""
    reproducible: bool
    """Run alone at a fixed shape, never beside other requests. Default false."""
    progress: bool | None
    """Whether to show progress. Default: that of the client."""
    adapter: str
    """Name of the model's PEFT adapter that is in force. Default: none, the model as it is."""
    add_special_tokens: bool
    """Whether the tokenizer adds its own beginning to prompts of text. Default true."""
    add_generation_prompt: bool
    """Whether the turn of the assistant is opened after chat messages. Default: unless the last one is its own."""
    continue_final_message: bool
    """Whether the last chat message is left open, to be continued. Default false."""


class SamplingOptions(TypedDict, total=False):
    """How the next token is chosen, and when to stop. By default the most probable one, to the model's end token."""

    do_sample: bool
    """Draw the token at random by its probability."""
    temperature: float
    """Divides the logits before sampling."""
    top_k: int
    """Draw among the k most probable tokens; 0: no limit."""
    top_p: float
    """Draw among the fewest tokens whose probability reaches this sum."""
    seed: int | None
    """Starts the random numbers of each prompt."""
    seeds: tuple[int, ...]
    """One for each prompt, in place of ``seed``: prompts of equal seeds draw equal numbers."""
    stop_strings: tuple[str, ...]
    """Texts after which a prompt ends."""
    stop_token_ids: tuple[int, ...]
    """Tokens after which a prompt ends."""
    ignore_eos: bool
    """Go on after the model's own end token."""


class GenerateOptions(SamplingOptions, RunOptions, total=False):
    """Options of ``Model.generate`` and ``Model.stream``."""


def checked(options: RunOptions) -> RunOptions:
    """The same options. Raises ``TypeError`` for an unknown keyword: one that is passed over would change nothing."""
    _refuse_unknown(options, RunOptions.__annotations__)
    return options


def _refuse_unknown(options: Mapping[str, object], known: Iterable[str]) -> None:
    for name in options:
        if name not in known:
            raise TypeError(f"there is no option {name!r}{advice(nearest_names(name, known))}")


def split_options(max_new_tokens: int, options: GenerateOptions) -> tuple[Generation, RunOptions]:
    """The generation settings, and the options of the run. Raises ``TypeError`` for an unknown keyword."""
    _refuse_unknown(options, (*RunOptions.__annotations__, *SamplingOptions.__annotations__))
    run: RunOptions = {name: value for name, value in options.items() if name in RunOptions.__annotations__}  # pyright: ignore
    sampling = {name: value for name, value in options.items() if name not in run}
    for name in ("stop_strings", "stop_token_ids", "seeds"):
        given = sampling.get(name, ())
        sampling[name] = (given,) if isinstance(given, (str, int)) else tuple(given)  # pyright: ignore
    return Generation(max_new_tokens, **sampling), run  # pyright: ignore[reportArgumentType]
