"""One call of Inseq's ``attribute``, in our words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from interpd.errors import CallerError
from interpd_attribution.attribution import Attribution
from interpd_attribution.contrast import Contrast
from interpd_attribution.inseq_shim import outputs
from interpd_attribution.inseq_words import CONTRAST, CONTRASTIVE, STEP_FUNCTIONS, method_of, options_of, with_options
from interpd_attribution.labels import SPACE
from interpd_attribution.methods import schema_of

if TYPE_CHECKING:
    from interpd_attribution.inseq_shim.model import AttributionModel

_STEP_OPTIONS = {name for options in STEP_FUNCTIONS.values() for name in options}


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a call of Inseq's ``attribute`` says, beside texts and method; everything else belongs to the method."""

    override_default_attribution: bool = False
    attr_pos_start: int | None = None
    attr_pos_end: int | None = None
    show_progress: bool | None = None
    pretty_progress: bool = True
    output_step_attributions: bool = False
    attribute_target: bool = False
    step_scores: Sequence[str] = ()
    include_eos_baseline: bool = False
    attributed_fn: str | None = None
    device: str | None = None
    batch_size: int | None = None
    generate_from_target_prefix: bool = False
    skip_special_tokens: bool = False
    clean_special_chars: bool = False
    generation_args: Mapping[str, Any] = field(default_factory=dict)
    attribution_args: Mapping[str, Any] = field(default_factory=dict)
    attributed_fn_args: Mapping[str, Any] = field(default_factory=dict)
    step_scores_args: Mapping[str, Any] = field(default_factory=dict)

    @property
    def target(self) -> str:
        """The attributed step function."""
        return self.attributed_fn or "probability"


@dataclass(frozen=True)
class Call:
    """One call of ``attribute``, in our words."""

    owner: "AttributionModel"
    method: str
    written: Written
    rest: Mapping[str, Any]

    def one(self, text: str, generated: str | None, at: int) -> Attribution:
        """The result of one text, the number ``at`` of the call."""
        item = self.owner.model.attribute(text or self._beginning(), **self._options(text, generated, at))
        names = {self._function(name, self.written.step_scores_args): name for name in self.written.step_scores}
        item = outputs.renamed_scores(item, names)
        if method_of(self.method).is_of_a_layer:
            item = outputs.of_one_layer(item)
        item = self._marked(item)
        item = item.clean_tokens() if self.written.clean_special_chars else item
        item = outputs.with_steps(item) if self.written.output_step_attributions else item
        return replace(item, info={**item.info, **self._told()})

    def _told(self) -> dict[str, Any]:
        written = self.written
        told = {
            "attribution_method": self.method,
            "attributed_fn": written.target,
            "attribution_args": self._method_options(),
            "attributed_fn_args": self._arguments(written.attributed_fn_args),
            "step_scores": list(written.step_scores),
            "step_scores_args": self._arguments(written.step_scores_args),
            "output_step_attributions": written.output_step_attributions,
            "generation_args": dict(written.generation_args),
        }
        note = method_of(self.method).note
        return {**told, **({"note": note} if note else {})}

    def _options(self, text: str, generated: str | None, at: int) -> dict[str, Any]:
        written = self.written
        ours = method_of(self.method)
        has_vectors = f"attribution.{ours.id}_vectors" in self.owner.model.manifest.ops
        found: dict[str, Any] = {
            "method": ours.id,
            "target": self._function(written.target, written.attributed_fn_args),
            "step_scores": tuple(self._function(name, written.step_scores_args) for name in written.step_scores),
            "attr_pos_start": written.attr_pos_start,
            "attr_pos_end": written.attr_pos_end,
            "attribute_target": written.attribute_target and self.owner.is_encoder_decoder,
            "granular": has_vectors,
            "contrast": self._contrast(text, at),
            **self._constants(),
        }
        if written.include_eos_baseline:
            found["include_eos_baseline"] = True
        if written.skip_special_tokens:
            found["add_special_tokens"] = False
        if written.show_progress is not None:
            found["progress"] = written.show_progress
        if generated is None or (written.generate_from_target_prefix and self.owner.is_encoder_decoder):
            found["generation"] = self.owner.generation(text, written.generation_args)
            return found | ({} if generated is None else {"generated": generated})
        if written.generation_args:
            raise CallerError("generation_args: generated_texts say what is explained already; give one of them")
        return found | {"generated": self._forced(text, generated)}

    def _constants(self) -> dict[str, Any]:
        """Options of the method, in our words."""
        asked = options_of(self.method, self._method_options(), self.owner.path_of)
        return {**method_of(self.method).fixed, **asked}

    def _method_options(self) -> dict[str, Any]:
        taken = {*CONTRAST, *_STEP_OPTIONS}
        own = self.owner.method_args if self.method == self.owner.attribution_method else {}
        given = {name: value for name, value in self.rest.items() if name not in taken}
        return {**own, **given, **self.written.attribution_args}

    def _arguments(self, more: Mapping[str, Any]) -> dict[str, Any]:
        """Options of step functions."""
        return {**{name: value for name, value in self.rest.items() if name in _STEP_OPTIONS}, **more}

    def _function(self, name: str, more: Mapping[str, Any]) -> str:
        return with_options(name, self._arguments(more))

    def _forced(self, text: str, generated: str) -> Any:
        if self.owner.is_encoder_decoder:
            return self._target_ids(text, generated)[1:]
        if not generated.startswith(text):
            raise CallerError(
                f"generated_texts of a decoder-only model begin with their input texts: {generated!r} does not "
                f"begin with {text!r}"
            )
        return generated[len(text) :]

    def _target_ids(self, text: str, generated: str) -> tuple[int, ...]:
        """What the decoder is given, with the end token that the tokenizer puts behind a text."""
        model, source = self.owner.model, text
        plain = model.tokenize(source, target=generated).target
        alone = model.tokenize(generated)
        assert plain is not None
        end = alone.strings[-1] if alone.offsets[-1] == (0, 0) else ""
        if self.written.skip_special_tokens or not end or generated.endswith(end):
            return plain.ids
        whole = model.tokenize(source, target=generated + end).target
        assert whole is not None
        if whole.ids[:-1] != plain.ids:
            raise CallerError(f"{end!r} behind {generated!r} changes its tokens: use model.attribute with token ids")
        return whole.ids

    def _contrast(self, text: str, at: int) -> Contrast | None:
        given = {**self._contrast_of({}), **self._contrast_of(self.written.attributed_fn_args)}
        for name, value in self._contrast_of(self.written.step_scores_args).items():
            if given.setdefault(name, value) != value:
                raise CallerError(f"{name} differs between attributed_fn_args and step_scores_args: make two calls")
        functions = (self.written.target, *self.written.step_scores)
        if not given:
            return None
        if not any(name.startswith(CONTRASTIVE) for name in functions):
            raise CallerError(f"{next(iter(given))}: none of {', '.join(functions)} contrasts anything; leave it out")
        foil = self._of_sequence(given.get("contrast_targets"), at)
        source = self._of_sequence(given.get("contrast_sources"), at)
        if foil is not None and self.owner.is_encoder_decoder:
            foil = self._target_ids(source or text, foil)
        return Contrast(
            foil,
            whole=foil is not None,
            source=source,
            alignments=self._alignments(given.get("contrast_targets_alignments"), at),
            # step scores have the foil in its own context in any case
            force_inputs=bool(given.get("contrast_force_inputs", False)) and self._has_targets,
            shared=0,
            beyond="last",
        )

    @property
    def _has_targets(self) -> bool:
        """Whether the method explains a step function."""
        schema = schema_of(self.owner.model.manifest, method_of(self.method).id)
        return any(param.name == "contrast_force_inputs" for param in schema.params)

    def _contrast_of(self, given: Mapping[str, Any]) -> dict[str, Any]:
        chosen = given or self.rest
        return {name: chosen[name] for name in CONTRAST if chosen.get(name) is not None}

    def _of_sequence(self, given: Any, at: int) -> Any:
        if given is None or isinstance(given, str):
            return given
        items = list(given) if isinstance(given, (list, tuple)) else []
        if at >= len(items) or not isinstance(items[at], str):
            raise CallerError(f"a contrast is {type(given).__name__}, expected a text for each of input_texts")
        return items[at]

    def _alignments(self, given: Any, at: int) -> Any:
        if given is None or isinstance(given, str) or callable(given) or not given:
            return given or None
        return list(given) if isinstance(given[0], tuple) else list(given[at])

    def _beginning(self) -> str:
        raise CallerError("an input text is empty: give at least the token that texts begin with")

    def _marked(self, item: Attribution) -> Attribution:
        """The result with tokens as the vocabulary writes them."""
        begins_word = [
            one.id for one in item.source if one.id >= 0 and one.text.startswith(SPACE) and len(one.text) > 1
        ]
        if not begins_word:
            return item
        # decoded alone, tokens of byte-level vocabularies keep their space, those of SentencePiece do not
        is_byte_level = self.owner.model.tokenize(begins_word[:1]).strings[0][:1].isspace()
        sides = {
            name: outputs.marked(getattr(item, name), is_byte_level=is_byte_level) for name in ("source", "target")
        }
        return replace(item, **sides)
