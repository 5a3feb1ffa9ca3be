"""A model that reads its embeddings again behind its blocks: rows join, caches spread, and nobody's numbers tell."""

import numpy as np
import pytest
from side_reader import STREAM, TABLE, reader_bench, resident_reader

from interpd.engine.cuts import _between_blocks
from interpd.engine.families import extended
from interpd.engine.families.gpt2 import GPT2
from interpd.graph.ir import Generation, Ref, Steps
from interpd.plugin.site_table import SiteRow, SiteTable
from interpd.testing.bench import ask, call, read, write

PROMPT, OTHER = "The cat sat on the mat", "the lazy dog"
GREEDY = Generation(max_new_tokens=4, ignore_eos=True)


@pytest.fixture(scope="module")
def bench():
    return reader_bench()


def rows_seen(bench, *requests):
    """(rows that the first and the last block and the side behind them saw, pass by pass; the outcomes)."""
    seen = {"first": [], "last": [], "side": []}
    blocks = bench.model.transformer.h
    modules = {"first": blocks[0].ln_1, "last": blocks[-1].ln_1, "side": bench.model.reader.asks}
    handles = [
        module.register_forward_pre_hook(lambda _, args, name=name: seen[name].append(len(args[0])))
        for name, module in modules.items()
    ]
    outcomes = bench.run_all(*requests)
    for handle in handles:
        handle.remove()
    return seen, outcomes


def scaled(site, factor, *prompts, steps=None, **options):
    """Each prompt with its factor on what is at a site (1: no write), its last logits and where it looks."""
    nodes, outputs = [], {}
    for invoke in range(len(prompts)):
        if factor[invoke] != 1:
            at = len(nodes)
            value = call("torch.mul", Ref(at), factor[invoke])
            nodes += [
                read(site, invoke=invoke, steps=steps),
                value,
                write(Ref(at + 1), site, invoke=invoke, steps=steps),
            ]
        outputs[f"{invoke}"] = len(nodes)
        nodes.append(read("logits", invoke=invoke, positions=(-1,)))
    return ask(nodes, outputs, *prompts, **options)


def assert_equal(one, other, tolerance=1e-10):
    assert np.abs(one - other).max() <= tolerance * np.abs(other).max()


def test_edits_behind_the_blocks_share_the_blocks(bench):
    factors = (1.0, 2.0, -1.0, 0.5)
    seen, (together,) = rows_seen(bench, scaled("vectors", factors, *[PROMPT] * 3, OTHER))
    assert seen == {"first": [2], "last": [2], "side": [4]}
    for at, (prompt, factor) in enumerate(zip([PROMPT] * 3 + [OTHER], factors, strict=True)):
        assert_equal(together[f"{at}"], bench.run(scaled("vectors", (factor,), prompt))["0"])


def test_what_follows_the_blocks_goes_with_rows_that_leave_and_join_inside_them(bench):
    inside = scaled("layers.1.resid_post", (1.0, 2.0), PROMPT, PROMPT)
    early = ask([read("layers.0.mlp.out")], {"x": 0}, "The dog")
    seen, (together, _, _) = rows_seen(bench, inside, early, scaled("vectors", (3.0,), OTHER))
    assert seen == {"first": [3], "last": [3], "side": [3]}
    for at, factor in enumerate((1.0, 2.0)):
        assert_equal(together[f"{at}"], bench.run(scaled("layers.1.resid_post", (factor,), PROMPT))["0"])


def test_a_pass_that_needs_no_more_stops_before_the_mixture(bench):
    calls = []
    handle = bench.model.reader.looks.register_forward_hook(lambda *_: calls.append(1))
    bench.run(ask([read("vectors")], {"x": 0}, PROMPT))
    handle.remove()
    assert not calls


def test_such_a_model_is_not_cut_between_its_blocks(bench):
    assert _between_blocks(bench.engine._access.resident) == []


def generated(outcome):
    return [one.token_ids for one in outcome.done.generated]


def test_variants_of_a_prompt_are_decoded_from_one_prefill(bench):
    factors = (1.0, 2.0, -1.0, 0.5)
    seen, (together,) = rows_seen(bench, scaled("vectors", factors, *[PROMPT] * 3, OTHER, generation=GREEDY))
    assert seen == {"first": [2, 4, 4, 4], "last": [2, 4, 4, 4], "side": [4, 4, 4, 4]}
    for at, (prompt, factor) in enumerate(zip([PROMPT] * 3 + [OTHER], factors, strict=True)):
        alone = bench.run(scaled("vectors", (factor,), prompt, generation=GREEDY))
        assert generated(alone) == [generated(together)[at]]
        assert_equal(together[f"{at}"], alone["0"])


def test_strangers_share_a_prefill_and_join_later(bench):
    first, second = (scaled("vectors", (factor,), PROMPT, generation=GREEDY) for factor in (1.0, 2.0))
    seen, outcomes = rows_seen(bench, first, second)
    assert seen["first"] == [1, 2, 2, 2]
    late = scaled("looks", (0.5,), PROMPT, generation=GREEDY)
    outcomes = bench.start(first, second)
    for _ in range(2):
        bench.step(outcomes)
    outcomes |= bench.start(late)
    while bench.engine.has_work:
        bench.step(outcomes)
    for request in (first, second, late):
        alone = bench.run(request)
        assert_equal(outcomes[request.run_id]["0"], alone["0"])
        assert generated(outcomes[request.run_id]) == generated(alone)


def test_a_write_in_the_blocks_is_prefilled_as_a_row_of_its_own(bench):
    seen, (together,) = rows_seen(
        bench, scaled("layers.1.resid_post", (1.0, 2.0, 1.0), *[PROMPT] * 3, generation=GREEDY)
    )
    assert (seen["first"][0], seen["side"][0]) == (2, 2)
    alone = bench.run(scaled("layers.1.resid_post", (2.0,), PROMPT, generation=GREEDY))
    assert_equal(together["1"], alone["0"])


def test_writes_of_later_steps_do_not_part_the_prefill(bench):
    request = scaled("layers.1.resid_post", (1.0, 2.0), PROMPT, PROMPT, steps=Steps(1, None), generation=GREEDY)
    seen, (together,) = rows_seen(bench, request)
    assert (seen["first"], seen["side"][0]) == ([1, 2, 2, 2], 1)
    alone = bench.run(scaled("layers.1.resid_post", (2.0,), PROMPT, steps=Steps(1, None), generation=GREEDY))
    assert_equal(together["1"], alone["0"])


def test_prompts_that_share_a_prefill_draw_for_themselves(bench):
    def draws(seed):
        return Generation(max_new_tokens=6, do_sample=True, seed=seed, ignore_eos=True)

    seen, (together,) = rows_seen(bench, scaled("vectors", (1.0,) * 3, *[PROMPT] * 3, generation=draws(3)))
    assert seen["first"][0] == seen["side"][0] == 1
    alone = [bench.run(scaled("vectors", (1.0,), PROMPT, generation=draws(3 + invoke))) for invoke in range(3)]
    assert generated(together) == [generated(one)[0] for one in alone]
    assert len(set(generated(together))) > 1


def test_who_fails_in_a_shared_prefill_fails_alone(bench):
    bad = ask(
        [
            read("vectors"),
            call("torch.mul", Ref(0), 2.0),
            write(Ref(1), "vectors"),
            read("logits"),
            # indices out of range are found when they are used
            call("param.read", name="transformer.wte.weight"),
            call("tensor.getitem", Ref(4), (10_000,)),
        ],
        {"x": 5},
        PROMPT,
        generation=GREEDY,
    )
    good = scaled("vectors", (2.0,), PROMPT, generation=GREEDY)
    failed, fine = bench.run_all(bad, good)
    assert failed.events[-1].error
    assert_equal(fine["0"], bench.run(good)["0"])


def test_a_prefill_that_cannot_be_shared_is_run_as_it_is(bench, monkeypatch):
    from interpd.engine.kv_cache import RowCache

    def refuse(*_):
        raise RuntimeError("no")

    monkeypatch.setattr(RowCache, "spread", refuse)
    seen, (together,) = rows_seen(bench, scaled("vectors", (1.0, 2.0), PROMPT, PROMPT, generation=GREEDY))
    assert seen["first"][:2] == [1, 2]
    assert_equal(together["1"], bench.run(scaled("vectors", (2.0,), PROMPT, generation=GREEDY))["0"])


def test_one_row_of_the_start_becomes_all_rows_behind_the_blocks(bench):
    seen, (together,) = rows_seen(bench, scaled("looks", (1.0, 0.5), PROMPT, PROMPT))
    assert seen == {"first": [1], "last": [1], "side": [2]}
    assert_equal(together["1"], bench.run(scaled("looks", (0.5,), PROMPT))["0"])


@pytest.fixture(scope="module")
def odd():
    """The model with a table that is wrong twice and names an axis."""

    def made(looks, vectors):
        return looks.mT @ vectors

    wrong = SiteRow("mixed", STREAM, "reader", made_of=("looks", "vectors"), made_by=made)
    rows = (*(row for row in TABLE.rows if row.name != "mixed"), wrong)
    return resident_reader(rows=rows, sizes={"reader": "n_head"}, lookups={"lm_head": ("d_model",)})


def test_a_site_that_is_not_made_as_its_table_says_is_not_offered(odd):
    """Nothing else speaks for those that it is made of, so all three are left out."""
    reasons = {site.name: site.reason for site in odd.absent_sites}
    assert "mixed is not what is made of looks and vectors (relative error" in reasons["mixed"]
    assert {"looks", "vectors"} <= reasons.keys()


def test_a_declared_look_up_that_is_none_is_not_offered(odd):
    assert (odd.modules["lm_head"].n_ids, odd.modules["lm_head"].d_in) == (None, 24)


def test_a_table_may_add_axes_of_its_own(odd):
    assert odd.info.sizes["reader"] == 4


def test_what_is_read_behind_the_norm_leaves_logits_at_the_positions_that_are_asked_for(bench):
    seen = []
    handle = bench.model.lm_head.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    bench.run(scaled("vectors", (2.0,), PROMPT))
    bench.run(ask([read("lm_head.input"), read("logits", positions=(-1,))], {"x": 0, "y": 1}, PROMPT))
    handle.remove()
    assert seen == [1, len(bench.ids(PROMPT)[0])]


def test_a_table_may_add_to_that_of_a_model_inside():
    """Its own rows win, and what is absent there is not taken over."""
    own = (SiteRow("vectors", STREAM, "reader.vectors"), SiteRow("embed", STREAM, "table"))
    table = SiteTable(
        "held",
        ("Held",),
        "",
        own,
        extends="GPT2LMHeadModel",
        moved=("transformer.", "inner."),
        absent={"ln_final": "x"},
    )
    whole = extended(table, GPT2)
    paths = {row.name: row.path for row in whole.rows}
    assert (paths["embed"], paths["vectors"], paths["logits"]) == ("table", "reader.vectors", "lm_head")
    assert paths["layers.{i}.mlp.out"] == "inner.h.{i}.mlp"
    assert (whole.block, whole.family, whole.mlp_width[0]) == ("inner.h.{i}", "held", "inner.h.{i}.mlp.c_proj")
    assert "ln_final" not in paths
    assert whole.absent.keys() == {*GPT2.absent, "ln_final"}


def test_a_step_that_fails_on_its_way_is_undone_in_the_layer_behind_the_blocks_too(bench):
    requests = [scaled("vectors", (factor,), PROMPT, generation=GREEDY) for factor in (1.0, 2.0)]
    alone, calls = [bench.run(request) for request in requests], []

    def fail_once(module, args):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("once")

    handle = bench.model.lm_head.register_forward_pre_hook(fail_once)
    together = bench.run_all(*requests)
    handle.remove()
    assert len(calls) > 4
    for one, other in zip(together, alone, strict=True):
        assert generated(one) == generated(other)
        assert_equal(one["0"], other["0"])
