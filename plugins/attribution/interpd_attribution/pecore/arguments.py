"""What ``attribute_context`` is asked, under Inseq's names, so that a file that it saved says how it came about."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from interpd.errors import CallerError
from interpd_attribution.pecore.templates import Template
from interpd_client.options import SamplingOptions

Strategy = Literal["manual", "auto", "pre"]
STRATEGIES = ("manual", "auto", "pre")

WITHOUT_FOIL = ("logit", "probability", "entropy", "crossentropy", "perplexity", "top_p_size", "mc_dropout_prob_avg")
"""Step functions that contrast nothing."""


@dataclass(frozen=True, kw_only=True)
class ContextArguments:
    """Texts, templates and options. Raises ``CallerError`` where they do not fit each other."""

    input_current_text: str
    """What is generated from: a prompt, or the source of an encoder-decoder model; ``{current}`` of the template."""
    input_context_text: str | None = None
    """``{context}`` of the input's template."""
    input_template: str | None = None
    """Default: ``{context} {current}`` where there is a context, else ``{current}``."""
    output_context_text: str | None = None
    """What the output begins with, as a context, too. ``None``, with a place in its template: a first part of what is
    generated, see ``handle_output_context_strategy``."""
    output_current_text: str | None = None
    """The output whose tokens are looked at; ``None``: what the model generates."""
    output_template: str | None = None
    """As ``input_template``; the context stands before the current text."""
    contextless_input_current_text: str = "{current}"
    """The input without its context: a template of the current text, or another text altogether."""
    contextless_output_current_text: str = "{current}"
    """The output without its context: a template of the current text."""
    context_sensitivity_metric: str = "kl_divergence"
    """A contrastive step function, with its options in parentheses."""
    handle_output_context_strategy: Strategy = "manual"
    """How output context and current text are told apart that were generated together: ``auto`` by what stands between
    the two in the template, or by punctuation; ``manual`` asks the caller's ``ask``; ``pre`` refuses."""
    contextless_output_next_tokens: tuple[str | int, ...] = ()
    """For each sensitive token, in the order of their ranks, what a contrastive target contrasts it with: a token id,
    or a text whose first token is meant. Empty: what is likeliest without the contexts."""
    special_tokens_to_keep: tuple[str, ...] = ()
    """Special tokens of a generated output that are part of it; others are passed over."""
    add_special_tokens: bool = True
    """Whether the tokenizer adds special tokens of its own to texts; not where templates have them written out."""
    decoder_input_output_separator: str = " "
    """What stands between the input and the output of a decoder-only model."""
    context_sensitivity_std_threshold: float | None = 1.0
    """How many standard deviations above the mean the scores of sensitive tokens are; ``None``: any."""
    context_sensitivity_topk: int | None = None
    """How many sensitive tokens there are at most."""
    attribution_std_threshold: float | None = 1.0
    """The same for the cues that views mark among the contexts' tokens; files have the scores of all."""
    attribution_topk: int | None = None
    attribution_method: str = "saliency"
    attributed_fn: str | None = None
    """The step function that is attributed, ``None``: the probability. A contrastive one contrasts each token with
    what came without the contexts."""
    attribution_selectors: tuple[int, ...] | None = None
    """With ``attribution_aggregators``: for each the entry of its axis that is picked."""
    attribution_aggregators: tuple[str, ...] | None = None
    """What makes one number for each token of what the method gives; ``None``: the method's default."""
    normalize_attributions: bool = False
    """The magnitudes of all inputs of a sensitive token sum to one."""
    rescale_attributions: bool = False
    """Instead: divided by the largest magnitude."""
    generation_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Options of the generation: ``max_new_tokens`` (needed), ``do_sample``, ``seed``, ..."""
    attribution_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Constants of the method: ``n_steps``, ``baseline``, ..."""

    def __post_init__(self) -> None:
        settle = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731
        for side in ("input", "output"):
            default = "{current}" if getattr(self, f"{side}_context_text") is None else "{context} {current}"
            if getattr(self, f"{side}_template") is None:
                settle(f"{side}_template", default)
        for name in ("contextless_output_next_tokens", "special_tokens_to_keep"):
            settle(name, tuple(getattr(self, name)))
        for name in ("attribution_selectors", "attribution_aggregators"):
            settle(name, None if getattr(self, name) is None else tuple(getattr(self, name)))
        for name in ("generation_kwargs", "attribution_kwargs"):
            settle(name, dict(getattr(self, name)))
        self._check_texts()
        self._check_options()

    @property
    def input(self) -> Template:
        """The input's template."""
        return Template(str(self.input_template), "input_template")

    @property
    def output(self) -> Template:
        """The output's template."""
        return Template(str(self.output_template), "output_template")

    @property
    def target(self) -> str:
        """The step function that is attributed."""
        return self.attributed_fn or "probability"

    @property
    def is_contrastive(self) -> bool:
        """Whether the attributed step function contrasts a token with another one; those of other packages may."""
        return self.target.partition("(")[0].strip() not in WITHOUT_FOIL

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, by Inseq's names."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in ((one.name, getattr(self, one.name)) for one in dataclasses.fields(self))
        }

    def _check_texts(self) -> None:
        if not self.input_current_text:
            raise CallerError("input_current_text is empty; it is what the model generates from")
        for side, template in (("input", self.input), ("output", self.output)):
            if not template.has("current"):
                raise CallerError(f"{template.name} {template.text!r} has no place for {{current}}")
            context = getattr(self, f"{side}_context_text")
            if context and not template.has("context"):
                raise CallerError(
                    f"{template.name} {template.text!r} has no place for {{context}}, but {side}_context_text is given"
                )
        if self.input.has("context") and not self.input_context_text:
            raise CallerError(f"input_template {self.input_template!r} has {{context}}: give input_context_text")
        text = str(self.output_template)
        if self.output.has("context") and text.index("{context}") > text.index("{current}"):
            raise CallerError(f"output_template {text!r}: the context stands before {{current}}")
        for name in ("contextless_input_current_text", "contextless_output_current_text"):
            if Template(getattr(self, name), name).has("context"):
                raise CallerError(f"{name} {getattr(self, name)!r} has {{context}}; it is the text without one")
        if not Template(self.contextless_output_current_text, "contextless_output_current_text").has("current"):
            raise CallerError(
                f"contextless_output_current_text {self.contextless_output_current_text!r} has no {{current}}: the "
                "same tokens are compared with and without the context"
            )
        if not self.input.has("context") and not self.output.has("context"):
            raise CallerError("there is no context: give input_context_text or output_context_text, or both")

    def _check_options(self) -> None:
        if self.handle_output_context_strategy not in STRATEGIES:
            known = ", ".join(STRATEGIES)
            raise CallerError(
                f"handle_output_context_strategy is {self.handle_output_context_strategy!r}, expected one of {known}"
            )
        needs_split = self.output.has("context") and not self.output_context_text
        if needs_split and self.handle_output_context_strategy == "pre":
            raise CallerError(
                "handle_output_context_strategy='pre': output_template has {context}, so output_context_text is needed"
            )
        if self.context_sensitivity_metric.partition("(")[0].strip() in WITHOUT_FOIL:
            raise CallerError(
                f"context_sensitivity_metric {self.context_sensitivity_metric!r} does not compare two contexts; take a "
                "contrastive step function: kl_divergence, pcxmi, contrast_prob_diff, ..."
            )
        known = ("max_new_tokens", *SamplingOptions.__annotations__)
        unknown = [name for name in self.generation_kwargs if name not in known]
        if unknown:
            raise CallerError(f"generation_kwargs: no option {unknown[0]!r}; there are {', '.join(known)}")
        for name in ("context_sensitivity_topk", "attribution_topk"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise CallerError(f"{name} is {value}, expected 1 or more, or None")
        if self.attribution_selectors is not None and len(self.attribution_selectors) != len(
            self.attribution_aggregators or ()
        ):
            raise CallerError("attribution_selectors: give one for each of attribution_aggregators")
        if self.contextless_output_next_tokens and not self.is_contrastive:
            raise CallerError(
                f"contextless_output_next_tokens: {self.target!r} contrasts nothing; set attributed_fn to a step "
                "function that does"
            )
