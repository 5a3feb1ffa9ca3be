"""Prompts, generation settings and tokens, to and from the wire."""

import math
from typing import Any

from interpd.graph.ir import Generation, Prompt
from interpd.graph.run import Tokens
from interpd.wire.problems import Problems, build
from interpd.wire.v1 import prompt_pb2 as pb

_CONTENT = {"text": "text", "messages": "chat", "token_ids": "token_ids"}


def prompt_to_proto(prompt: Prompt, path: str, problems: Problems) -> pb.Prompt:
    """The prompt as a message; a problem unless exactly one of its contents is given."""
    given = [name for name in _CONTENT if getattr(prompt, name) is not None]
    if len(given) != 1:
        problems.add(
            path, f"exactly one of text, messages and token_ids is needed, got {' and '.join(given) or 'none'}"
        )
        return pb.Prompt()
    content: Any = prompt.text
    if prompt.messages is not None:
        sent = [build(pb.ChatMessage, problems, path, role=role, content=text) for role, text in prompt.messages]
        content = pb.ChatMessages(
            messages=sent,
            add_generation_prompt=prompt.add_generation_prompt,
            continue_final_message=prompt.continue_final_message,
        )
    elif prompt.token_ids is not None:
        content = build(pb.TokenIds, problems, path, ids=prompt.token_ids)
    fields = {_CONTENT[given[0]]: content, "add_special_tokens": prompt.add_special_tokens}
    return build(pb.Prompt, problems, path, **fields, **_target_fields(prompt, path, problems))


def _target_fields(prompt: Prompt, path: str, problems: Problems) -> dict[str, Any]:
    if prompt.target_text is not None and prompt.target_ids is not None:
        problems.add(path, "at most one of target_text and target_ids may be given, got both")
    if prompt.target_text is not None:
        return {"target_text": prompt.target_text}
    if prompt.target_ids is not None:
        return {"target_ids": build(pb.TokenIds, problems, f"{path}.target_ids", ids=prompt.target_ids)}
    return {}


def prompt_from_proto(proto: pb.Prompt, path: str, problems: Problems) -> Prompt:
    """The prompt; an empty text, and a problem, when no content is set."""
    special = proto.add_special_tokens if proto.HasField("add_special_tokens") else True
    target: dict[str, Any] = {}
    if (which := proto.WhichOneof("target")) is not None:
        target = {which: proto.target_text if which == "target_text" else tuple(proto.target_ids.ids)}
    match proto.WhichOneof("content"):
        case "text":
            return Prompt(text=proto.text, add_special_tokens=special, **target)
        case "chat":
            chat = proto.chat
            return Prompt(
                messages=tuple((message.role, message.content) for message in chat.messages),
                add_generation_prompt=chat.add_generation_prompt if chat.HasField("add_generation_prompt") else None,
                continue_final_message=chat.continue_final_message,
                add_special_tokens=special,
                **target,
            )
        case "token_ids":
            return Prompt(token_ids=tuple(proto.token_ids.ids), add_special_tokens=special, **target)
    problems.add(path, "one of text, chat and token_ids is needed, got none")
    return Prompt(text="")


def generation_to_proto(generation: Generation, problems: Problems) -> pb.Generation:
    """The settings as a message."""
    fields = {name: getattr(generation, name) for name in Generation.__dataclass_fields__}
    return build(pb.Generation, problems, "generation", **fields)


def generation_from_proto(proto: pb.Generation, problems: Problems) -> Generation:
    """The settings; problems for numbers that are none."""
    return Generation(
        max_new_tokens=proto.max_new_tokens,
        do_sample=proto.do_sample,
        temperature=_number(proto, "temperature", problems),
        top_k=proto.top_k,
        top_p=_number(proto, "top_p", problems),
        seed=proto.seed if proto.HasField("seed") else None,
        stop_strings=tuple(proto.stop_strings),
        stop_token_ids=tuple(proto.stop_token_ids),
        ignore_eos=proto.ignore_eos,
        seeds=tuple(proto.seeds),
    )


def _number(proto: pb.Generation, name: str, problems: Problems) -> float:
    if not proto.HasField(name):
        return 1.0
    value = getattr(proto, name)
    if not math.isfinite(value):
        problems.add(f"generation.{name}", f"a finite number is needed, got {value}")
    return value


def tokens_to_proto(tokens: Tokens) -> pb.Tokens:
    """The tokens as a message. Token texts that are no text of their own (half a character) are sent as U+FFFD."""
    return pb.Tokens(
        ids=tokens.ids,
        strings=[_sendable(text) for text in tokens.strings],
        offsets=[pb.CharacterSpan(start=start, end=end) for start, end in tokens.offsets],
        text=_sendable(tokens.text),
        target=None if tokens.target is None else tokens_to_proto(tokens.target),
    )


def tokens_from_proto(proto: pb.Tokens, path: str, problems: Problems) -> Tokens:
    """The tokens; a problem when the lists differ in length."""
    if not len(proto.ids) == len(proto.strings) == len(proto.offsets):
        sizes = f"{len(proto.ids)}, {len(proto.strings)} and {len(proto.offsets)}"
        problems.add(path, f"ids, strings and offsets need equal lengths, got {sizes}")
    offsets = tuple((span.start, span.end) for span in proto.offsets)
    target = tokens_from_proto(proto.target, f"{path}.target", problems) if proto.HasField("target") else None
    return Tokens(tuple(proto.ids), tuple(proto.strings), offsets, proto.text, target)


def _sendable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
