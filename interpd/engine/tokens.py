"""Prompts as token ids, strings and offsets."""

from transformers import PreTrainedTokenizerFast

from interpd.errors import InvalidRequest
from interpd.graph.ir import Prompt
from interpd.graph.run import Tokens


def tokenize(tokenizer: PreTrainedTokenizerFast | None, prompt: Prompt, *, n_vocab: int, problem: str = "") -> Tokens:
    """The prompt as tokens, without padding and without truncation.

    Text takes the tokenizer's own special tokens unless ``prompt.add_special_tokens`` is off; chat messages are
    rendered with the tokenizer's template, and the turn of the assistant is opened unless the last message is its
    own. Ids are taken as they are.

    Args:
        tokenizer: ``None`` when the model has none that can be used; then only ids are taken.
        prompt: What to tokenise.
        n_vocab: How many rows the embedding has; an id beyond would read foreign memory.
        problem: Why there is no tokenizer.

    Raises:
        InvalidRequest: No tokenizer, no template, no token, an id out of range, not exactly one kind of prompt.
    """
    given = [kind for kind in ("text", "messages", "token_ids") if getattr(prompt, kind) is not None]
    if len(given) != 1:
        raise InvalidRequest(
            f"a prompt is exactly one of text, messages and token_ids, got {' and '.join(given) or 'none'}"
        )
    if prompt.token_ids is not None:
        return _from_ids(tokenizer, prompt.token_ids, n_vocab)
    if tokenizer is None:
        raise InvalidRequest(f"{problem or 'the model has no tokenizer'}: give the prompt as token_ids")
    if prompt.messages is not None:
        # the template brings the special tokens; the tokenizer's own would double them
        return _from_text(tokenizer, _render(tokenizer, prompt), n_vocab, add_special_tokens=False)
    return _from_text(tokenizer, prompt.text or "", n_vocab, add_special_tokens=prompt.add_special_tokens)


def _from_text(tokenizer: PreTrainedTokenizerFast, text: str, n_vocab: int, *, add_special_tokens: bool) -> Tokens:
    # verbose=False: no warning about lengths, which the checker judges
    encoded = tokenizer(text, add_special_tokens=add_special_tokens, return_offsets_mapping=True, verbose=False)
    ids = tuple(encoded["input_ids"])
    check_ids(ids, n_vocab)
    offsets = tuple((int(start), int(end)) for start, end in encoded["offset_mapping"])
    return Tokens(ids, strings_of(tokenizer, ids), offsets, text)


def _from_ids(tokenizer: PreTrainedTokenizerFast | None, ids: tuple[int, ...], n_vocab: int) -> Tokens:
    check_ids(ids, n_vocab)
    text = "" if tokenizer is None else decode(tokenizer, ids)
    return Tokens(ids, strings_of(tokenizer, ids), ((0, 0),) * len(ids), text)


def begins_twice(tokenizer: PreTrainedTokenizerFast | None, tokens: Tokens) -> bool:
    """Whether the prompt begins with two beginnings of text: one was written out where the tokenizer adds its own."""
    bos = None if tokenizer is None else tokenizer.bos_token_id
    return bos is not None and tokens.ids[:2] == (bos, bos)


_ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


def special_ids(tokenizer: PreTrainedTokenizerFast | None) -> dict[str, int]:
    """The ids of a tokenizer's special tokens by role (``eos``, ``pad``, ...); roles that it has not are absent."""
    found = {role: getattr(tokenizer, f"{role}_token_id", None) for role in _ROLES}
    return {role: id_ for role, id_ in found.items() if isinstance(id_, int)}


def unknown_words(tokenizer: PreTrainedTokenizerFast | None, tokens: Tokens) -> tuple[str, ...]:
    """Pieces of the text that the tokenizer does not know, so that the model sees its unknown token instead."""
    unknown = None if tokenizer is None else tokenizer.unk_token_id
    places = zip(tokens.ids, tokens.offsets, strict=True)
    pieces = (tokens.text[start:end].strip() for id_, (start, end) in places if id_ == unknown)
    # a special token that was written out, or added, is meant
    return tuple(piece for piece in pieces if piece and piece not in tokenizer.all_special_tokens)


def check_ids(ids: tuple[int, ...], n_vocab: int, of: str = "prompt") -> None:
    """Raises ``InvalidRequest`` for no ids, and for one that the model's embedding (``n_vocab`` rows) does not have."""
    if not ids:
        raise InvalidRequest(f"the {of} has no tokens: give at least one character or token id")
    for place, id_ in enumerate(ids):
        if isinstance(id_, bool) or not isinstance(id_, int) or not 0 <= id_ < n_vocab:
            where = f"at position {place}" + (f" of the {of}" if of != "prompt" else "")
            raise InvalidRequest(f"token id {id_!r} {where} is outside the vocabulary of {n_vocab}")


def _render(tokenizer: PreTrainedTokenizerFast, prompt: Prompt) -> str:
    if not tokenizer.chat_template:
        raise InvalidRequest("the model's tokenizer has no chat template: give the prompt as text")
    if not prompt.messages:
        raise InvalidRequest("the prompt has no messages")
    turns = [{"role": role, "content": content} for role, content in prompt.messages]
    opens, continues = prompt.add_generation_prompt, prompt.continue_final_message
    if opens is None:
        opens = not continues and turns[-1]["role"] != "assistant"
    try:
        return tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=opens, continue_final_message=continues
        )
    # a template is a program of whoever made the checkpoint: whatever it raises is about these messages
    except Exception as error:
        raise InvalidRequest(f"the chat template refuses these messages: {error}") from error


def decode(tokenizer: PreTrainedTokenizerFast, ids: tuple[int, ...]) -> str:
    """The text of ``ids``, special tokens included, exactly as the tokenizer decodes them together."""
    return tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)


def strings_of(tokenizer: PreTrainedTokenizerFast | None, ids: tuple[int, ...]) -> tuple[str, ...]:
    """The text of each token, decoded alone; the id itself without a tokenizer."""
    return tuple(f"<{id_}>" if tokenizer is None else decode(tokenizer, (id_,)) for id_ in ids)
