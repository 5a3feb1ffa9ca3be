"""The tokens of a text so far, in graphs that act while it is written."""

from dataclasses import replace

import numpy as np
import pytest

from interpd.graph.ir import Generation, Node, Prompt, Ref, Steps
from interpd.testing.bench import Bench, ask, call, read, write

PROMPT, LONGER = "The cat sat", "the lazy dog ran on the"
N = 5


@pytest.fixture(scope="module")
def bench():
    return Bench.tiny("gpt2")


def prefix(invoke=0, steps=None):
    return Node("tokens.prefix_ids", invoke=invoke, steps=steps)


def never_twice(*prompts, n=N):
    """Nodes that keep each prompt from saying any token of the text so far again."""
    nodes, outputs = [], {}
    for invoke, _ in enumerate(prompts):
        at = len(nodes)
        nodes += [
            prefix(invoke),
            call("torch.one_hot", Ref(at), num_classes=321),
            call("torch.sum", Ref(at + 1), dim=1),
            call("torch.mul", Ref(at + 2), -1e4),
            read("logits", invoke=invoke, positions=(-1,)),
            call("torch.add", Ref(at + 4), Ref(at + 3)),
            write(Ref(at + 5), "logits", invoke=invoke),
            read("logits", invoke=invoke, positions=(-1,)),
        ]
        outputs[f"{invoke}"] = at + 7
    generation = Generation(max_new_tokens=n, ignore_eos=True) if n else None
    return ask(nodes, outputs, *prompts, generation=generation)


def test_it_grows_with_the_text(bench):
    request = ask(
        [prefix(), call("torch.sum", Ref(0), dim=-1)], {"x": 1}, PROMPT, generation=Generation(N, ignore_eos=True)
    )
    outcome = bench.run(request)
    ids = bench.ids(PROMPT)[0].tolist()
    new = outcome.done.generated[0].token_ids
    assert outcome["x"].tolist() == [[sum(ids) + sum(new[:step])] for step in range(N)]


def test_what_is_written_with_it_is_what_a_pass_over_the_whole_text_gives(bench):
    together = bench.run(never_twice(PROMPT, LONGER))
    for invoke, prompt in enumerate((PROMPT, LONGER)):
        ids = bench.ids(prompt)[0].tolist()
        new = together.done.generated[invoke].token_ids
        assert len({*ids, *new}) == len({*ids}) + N
        for step in range(N):
            text = Prompt(token_ids=(*ids, *new[:step]))
            whole = bench.run(never_twice(text, n=0))["0"]
            assert np.abs(together[f"{invoke}"][step] - whole).max() <= 1e-5 * np.abs(whole).max()


def test_in_a_plain_pass_it_is_the_prompt_and_needs_no_pass(bench):
    outcome = bench.run(ask([prefix(), call("tokens.ids")], {"so_far": 0, "ids": 1}, PROMPT))
    assert np.array_equal(outcome["so_far"], outcome["ids"])
    assert outcome.done.cost.n_tokens == 0


def test_it_may_be_asked_for_at_one_step(bench):
    request = ask([prefix(steps=Steps(2, 3))], {"x": 0}, PROMPT, generation=Generation(N, ignore_eos=True))
    outcome = bench.run(request)
    assert outcome["x"][0].tolist() == [*bench.ids(PROMPT)[0].tolist(), *outcome.done.generated[0].token_ids[:2]]


def test_as_a_whole_it_does_not_stack(bench):
    failed = bench.run(ask([prefix()], {"x": 0}, PROMPT, generation=Generation(N))).error
    assert "so its steps do not stack" in failed.message


def test_steps_of_another_prompt_are_refused_where_one_may_end_before(bench):
    nodes = [
        prefix(),
        call("torch.sum", Ref(0), dim=-1),
        call("torch.mul", Ref(1), 1e-3),
        write(Ref(2), "logits", invoke=1),
        read("logits", invoke=1, positions=(-1,)),
    ]
    failed = bench.run(ask(nodes, {"x": 4}, PROMPT, PROMPT, generation=Generation(N))).error
    assert "one may end before the other" in failed.message


def test_a_prompt_that_has_ended_has_none(bench):
    first = bench.run(never_twice(PROMPT)).done.generated[0].token_ids[0]
    ends = Generation(max_new_tokens=N, stop_token_ids=(first,), ignore_eos=True)
    outcome = bench.run(replace(never_twice(PROMPT, LONGER), generation=ends))
    one, other = (len(one.token_ids) for one in outcome.done.generated)
    assert one == 1 < other
