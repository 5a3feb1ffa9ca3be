"""Rules about the request around the graph: its size, prompts, generation and outputs."""

from collections.abc import Iterator, Sequence
from math import isfinite

from interpd.errors import Violation
from interpd.graph.ir import Generation, Prompt, Ref
from interpd.graph.names import quoted
from interpd.graph.schema import Limits, OpSchema
from interpd.graph.subject import Subject
from interpd.graph.types import TensorData

MOST_NESTED = 8
"""Tuples within tuples: an index list inside an index is 2 deep."""

MOST_GRADIENTS = 256
"""Gradients of one request; each walks backwards through the model."""

MOST_ARGUMENTS = 8
"""Inputs, parameters and items of tuples of a graph, per node that it may have; a node may have them all."""

MOST_STOPS = 256
"""Stop strings, and stop tokens, each of which is looked for after every token."""

CHARACTERS_PER_TOKEN = 64
"""Text beyond this many characters for each token that a request may have is not even tokenised."""

LONGEST_NAME = 200


def too_large(subject: Subject) -> Iterator[Violation]:
    """Counts, nesting and inline constants, without looking at what anything means."""
    limits, graph, request = subject.manifest.limits, subject.graph, subject.request
    counts = (
        ("graph.nodes", "nodes", len(graph.nodes), limits.n_nodes),
        ("graph.outputs", "outputs", len(graph.outputs), limits.n_outputs),
        ("generation.max_new_tokens", "new tokens", subject.n_steps, limits.n_tokens),
    )
    for path, what, count, most in (*counts, *_stops(request.generation)):
        if count > most:
            yield Violation("LIMIT", path, f"{count} {what}, at most {most} are allowed")
    yield from prompts_too_large(request.prompts, limits)
    if len(graph.nodes) <= limits.n_nodes:
        yield from _constants_too_large(subject)
        n_gradients = sum(node.op == "site.grad" for node in graph.nodes)
        if n_gradients > MOST_GRADIENTS:
            yield Violation("LIMIT", "graph.nodes", f"{n_gradients} gradients, at most {MOST_GRADIENTS} are allowed")


def _stops(generation: Generation | None) -> Iterator[tuple[str, str, int, int]]:
    if generation is not None:
        yield "generation.stop_strings", "stop strings", len(generation.stop_strings), MOST_STOPS
        yield "generation.stop_token_ids", "stop tokens", len(generation.stop_token_ids), MOST_STOPS


def prompts_too_large(prompts: Sequence[Prompt], limits: Limits) -> Iterator[Violation]:
    """Prompts that would keep the tokenizer busy only to be refused for their number of tokens."""
    if len(prompts) > limits.n_prompts:
        yield Violation("LIMIT", "prompts", f"{len(prompts)} prompts, at most {limits.n_prompts} are allowed")
    n_ids = sum(len(prompt.token_ids or ()) + len(prompt.target_ids or ()) for prompt in prompts)
    if n_ids > limits.n_tokens:
        yield Violation("LIMIT", "prompts", f"{n_ids} positions in all, at most {limits.n_tokens} are allowed")
    most = CHARACTERS_PER_TOKEN * limits.n_tokens
    n_characters = sum(map(_n_characters, prompts))
    if n_characters > most:
        yield Violation("LIMIT", "prompts", f"{n_characters} characters in all, at most {most} are tokenised")


def _n_characters(prompt: Prompt) -> int:
    turns = sum(len(role) + len(text) + 1 for role, text in prompt.messages or ())
    return len(prompt.text or "") + turns + len(prompt.target_text or "")


def _constants_too_large(subject: Subject) -> Iterator[Violation]:
    total = n_arguments = 0
    for index, node in enumerate(subject.graph.nodes):
        level = [*node.inputs, *node.params.values()] if node.params else node.inputs
        n_arguments += len(level)
        if all([type(arg) is Ref for arg in level]):
            total += 8 * len(level)
            continue
        for _ in range(MOST_NESTED):
            tuples = [arg for arg in level if isinstance(arg, tuple)]
            for arg in level:
                total += len(arg.data) if isinstance(arg, TensorData) else len(arg) if isinstance(arg, str) else 8
            if not tuples:
                break
            level = [item for arg in tuples for item in arg]
            n_arguments += len(level)
        else:
            yield subject.fault("LIMIT", index, "", f"tuples are nested deeper than {MOST_NESTED}")
    most = MOST_ARGUMENTS * subject.manifest.limits.n_nodes
    if n_arguments > most:
        yield Violation("LIMIT", "graph.nodes", f"{n_arguments} arguments of all nodes, at most {most} are allowed")
    most = subject.manifest.limits.inline_bytes
    # references and small constants are counted at 8 bytes, which a graph of the largest size may well use up
    if total - 64 * len(subject.graph.nodes) > most:
        yield Violation("LIMIT", "graph.nodes", f"{total} bytes of constants, at most {most} inline: upload large ones")


def unknown_adapter(subject: Subject) -> Iterator[Violation]:
    """An adapter that the model does not have, or that could not be loaded."""
    name, known = subject.request.adapter, subject.manifest.adapters
    if name and name not in known:
        usable = ", ".join(repr(info.name) for info in known.values() if not info.problem) or "none"
        hint = subject.suggestions.near(name, "adapter", known)
        message = f"model {subject.manifest.model.name!r} has no adapter {quoted(name)}{hint or f'; it has {usable}'}"
        yield Violation("UNKNOWN_ADAPTER", "adapter", message)
    elif name and known[name].problem:
        yield Violation("UNKNOWN_ADAPTER", "adapter", f"adapter {name!r} was not loaded: {known[name].problem}")


def bad_prompts(subject: Subject) -> Iterator[Violation]:
    """Prompts that are not exactly one thing, or that the model cannot take."""
    if not subject.request.prompts:
        yield Violation("BAD_PROMPT", "prompts", "wants at least one prompt, got none")
    for index, prompt in enumerate(subject.request.prompts):
        for message in (*_prompt_problems(subject, prompt), *_target_problems(subject, prompt)):
            yield Violation("BAD_PROMPT", f"prompts[{index}]", message)
        lengths = subject.lengths[index]
        if (lengths.src_pos if subject.manifest.model.has_encoder else lengths.pos) == 0:
            yield Violation("BAD_PROMPT", f"prompts[{index}]", "has no tokens, at least one is needed")


def _prompt_problems(subject: Subject, prompt: Prompt) -> Iterator[str]:
    forms = [name for name in ("text", "messages", "token_ids") if getattr(prompt, name) is not None]
    if len(forms) != 1:
        yield f"wants exactly one of text, messages and token_ids, got {' and '.join(forms) or 'none'}"
    if prompt.messages is not None and not subject.manifest.model.has_chat_template:
        yield f"has messages, but model {subject.manifest.model.name!r} has no chat template: give text"
    if prompt.messages is None and (prompt.continue_final_message or prompt.add_generation_prompt is not None):
        yield "says how its last message ends, but has no messages"
    if prompt.continue_final_message and prompt.add_generation_prompt:
        yield "wants its last message continued and another turn opened: one of them"
    d_vocab = subject.manifest.model.sizes.get("d_vocab")
    # an encoder may have a vocabulary of its own, which only the worker knows
    yield from _foreign_ids(prompt.token_ids, None if subject.manifest.model.has_encoder else d_vocab)
    yield from _foreign_ids(prompt.target_ids, d_vocab)


def _foreign_ids(ids: Sequence[int] | None, d_vocab: int | None) -> Iterator[str]:
    """Why token ids are none of a vocabulary."""
    if ids:
        wrong = min(ids) if min(ids) < 0 else max(ids)
        if wrong < 0 or (d_vocab is not None and wrong >= d_vocab):
            yield f"has token id {wrong}, allowed: 0..{'?' if d_vocab is None else d_vocab - 1}"


def _target_problems(subject: Subject, prompt: Prompt) -> Iterator[str]:
    forms = [name for name in ("target_text", "target_ids") if getattr(prompt, name) is not None]
    if len(forms) > 1:
        yield "wants at most one of target_text and target_ids, got both"
    if forms and not subject.manifest.model.has_encoder:
        name = subject.manifest.model.name
        yield f"has {forms[0]}, but model {name!r} is no encoder-decoder model: its prompts have one side"


def too_many_tokens(subject: Subject) -> Iterator[Violation]:
    """Positions beyond the model's or the caller's bound, as far as token counts are known."""
    extra = max(subject.n_steps - 1, 0)
    longest, has_encoder = subject.manifest.model.max_positions, subject.manifest.model.has_encoder
    for index, lengths in enumerate(subject.lengths):
        grown = f" and {subject.n_steps} to be generated, all but the last of which need a position" if extra else ""
        sides = [("tokens", lengths.pos, extra, grown)]
        if has_encoder:
            # the decoder's start token is one of its positions
            sides = [("source tokens", lengths.src_pos, 0, ""), ("decoder positions", lengths.pos, extra, grown)]
        for what, count, more, text in sides:
            if count is not None and longest and count + more > longest:
                made = f": {count + more} positions" if text else ""
                message = f"{count} {what}{text}{made}, the model takes at most {longest} positions"
                yield Violation("LIMIT", f"prompts[{index}]", message)
    sizes = [(lengths.pos or 0) + (lengths.src_pos or 0) for lengths in subject.lengths]
    total = sum(sizes) + len(sizes) * extra
    most = subject.manifest.limits.n_tokens
    if total > most:
        yield Violation("LIMIT", "prompts", f"{total} positions in all, at most {most} are allowed")


def bad_generation(subject: Subject) -> Iterator[Violation]:
    """Options that mean nothing, or that would be ignored."""
    generation = subject.request.generation
    if generation is not None:
        for name, message in _generation_problems(generation, subject.manifest.model.sizes.get("d_vocab")):
            yield Violation("BAD_GENERATION", f"generation.{name}", message)
        for message in _bad_seeds(generation, len(subject.request.prompts)):
            yield Violation("BAD_GENERATION", "generation.seeds", message)


def _bad_seeds(generation: Generation, n_prompts: int) -> Iterator[str]:
    if not generation.seeds:
        return
    if generation.seed is not None:
        yield "seeds are given and seed as well: give one of them"
    if len(generation.seeds) != n_prompts:
        yield f"wants one for each prompt, {n_prompts}, got {len(generation.seeds)}"
    for seed in generation.seeds:
        if not 0 <= seed < 1 << 63:
            yield f"wants 0 <= seed < 2**63, got {seed}"


def _generation_problems(generation: Generation, d_vocab: int | None) -> Iterator[tuple[str, str]]:
    if generation.max_new_tokens < 1:
        yield "max_new_tokens", f"wants at least 1, got {generation.max_new_tokens}"
    if not (isfinite(generation.temperature) and generation.temperature > 0):
        yield "temperature", f"wants a positive number, got {generation.temperature}: for greedy use do_sample=False"
    if generation.top_k < 0:
        yield "top_k", f"wants 0 (no limit) or more, got {generation.top_k}"
    if not 0 < generation.top_p <= 1:
        yield "top_p", f"wants 0 < top_p <= 1, got {generation.top_p}"
    if generation.seed is not None and not 0 <= generation.seed < 1 << 63:
        yield "seed", f"wants 0 <= seed < 2**63, got {generation.seed}"
    if not generation.do_sample:
        for name, default in (("temperature", 1.0), ("top_k", 0), ("top_p", 1.0)):
            if getattr(generation, name) != default:
                yield name, f"{getattr(generation, name)} has no effect without sampling: set do_sample=True"
    if not all(generation.stop_strings):
        yield "stop_strings", "an empty stop string would end every generation at once"
    for token in generation.stop_token_ids:
        if token < 0 or (d_vocab is not None and token >= d_vocab):
            yield "stop_token_ids", f"has token id {token}, allowed: 0..{'?' if d_vocab is None else d_vocab - 1}"


def bad_outputs(subject: Subject) -> Iterator[Violation]:
    """Outputs that name nothing, and graphs that return nothing."""
    graph = subject.graph
    methods = any(schema.is_method for schema in _schemas_used(subject))
    if not graph.outputs and subject.request.generation is None and not methods:
        message = "has none, so nothing would come back: save a value, in Python `t.save(name=value)`"
        yield Violation("BAD_OUTPUT", "graph.outputs", message)
    for name, ref in graph.outputs.items():
        path = f"graph.outputs[{quoted(name)}]"
        if not name or len(name) > LONGEST_NAME:
            yield Violation("BAD_OUTPUT", path, f"wants a name of 1 to {LONGEST_NAME} characters")
        if not 0 <= ref.node < len(graph.nodes):
            yield Violation("DANGLING_REFERENCE", path, f"node {ref.node} does not exist, there are {len(graph.nodes)}")
        elif ref.node not in subject.bad and not 0 <= ref.output < len(subject.schema(ref.node).outputs):
            node = f"{subject.name(ref.node)} ({graph.nodes[ref.node].op})"
            yield Violation("BAD_OUTPUT", path, f"{node} has no output {ref.output}")


def _schemas_used(subject: Subject) -> list[OpSchema]:
    ops = {node.op for node in subject.graph.nodes}
    return [subject.manifest.ops[op] for op in ops if op in subject.manifest.ops]
