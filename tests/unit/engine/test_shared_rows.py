"""Prompts that are alike share rows until they differ, and nobody's numbers tell."""

import numpy as np
import pytest

from interpd.graph.ir import Generation, Ref, Slice
from interpd.graph.types import TensorData
from interpd.testing.bench import Bench, ask, call, read, write
from interpd.testing.tiny_models import ARCHITECTURES

SOURCE, TARGET = "The cat ran", "The cat sat on"
"""Seven tokens each."""
LONGER = "the lazy dog"
LAYERS, POSITIONS = range(3), range(4)


@pytest.fixture(scope="module")
def bench():
    return Bench.tiny("gpt2")


def patches(cells, site="layers.{}.resid_post", *, source=SOURCE):
    """One request: each cell (layer, position) of ``TARGET``, a prompt each, patched from ``source``."""
    nodes, outputs = [], {}
    for invoke, (layer, position) in enumerate(cells, start=1):
        at = len(nodes)
        nodes += [
            read(site.format(layer)),
            read(site.format(layer), invoke=invoke),
            call("tensor.getitem", Ref(at), (Slice(), position)),
            call("tensor.setitem", Ref(at + 1), (Slice(), position), Ref(at + 2)),
            write(Ref(at + 3), site.format(layer), invoke=invoke),
            read("logits", invoke=invoke, positions=(-1,)),
        ]
        outputs[f"{layer}.{position}"] = at + 5
    return ask(nodes, outputs, source, *[TARGET] * len(cells))


ONE, NAN = (TensorData.from_numpy(np.full(1, value, np.float32)) for value in (1.0, np.nan))
MID = "layers.{}.resid_mid"
CELLS = [(layer, position) for layer in LAYERS for position in POSITIONS]


def seen_by_blocks(bench, *requests):
    """How many rows each block of the one pass of these requests saw, and their outcomes."""
    seen, blocks = [], bench.model.transformer.h
    handles = [block.ln_1.register_forward_pre_hook(lambda _, args: seen.append(len(args[0]))) for block in blocks]
    outcomes = bench.run_all(*requests)
    for handle in handles:
        handle.remove()
    return seen, outcomes


def assert_same(together, alone):
    scale = max(float(np.abs(value).max()) for value in alone.values())
    for name, value in alone.items():
        assert np.abs(together[name] - value).max() <= 1e-5 * scale, name


def alone(bench, cells, **options):
    return {f"{cell[0]}.{cell[1]}": bench.run(patches([cell], **options))[f"{cell[0]}.{cell[1]}"] for cell in cells}


def test_a_sweep_runs_each_layer_for_the_patches_so_far(bench):
    seen, (sweep,) = seen_by_blocks(bench, patches(CELLS))
    # the source, then it and four patches for each layer behind us
    assert seen == [2, 6, 10]
    assert_same(sweep, alone(bench, CELLS))


def test_strangers_sweeps_are_one_sweep(bench):
    requests = [patches([cell]) for cell in CELLS]
    seen, outcomes = seen_by_blocks(bench, *requests, ask([read("logits")], {"logits": 0}, TARGET))
    assert seen == [2, 6, 10]
    assert outcomes[0].done.cost.shared_with == (13,)
    for (layer, position), outcome in zip(CELLS, outcomes, strict=False):
        name = f"{layer}.{position}"
        assert_same(outcome, {name: bench.run(patches([(layer, position)]))[name]})


def test_lengths_may_differ(bench):
    cells = [(layer, -1) for layer in LAYERS]
    seen, outcomes = seen_by_blocks(bench, patches(cells, MID), patches(cells, MID, source=LONGER))
    # two sources, and a write in a block needs its row before it; the last patch takes the row of the target
    assert seen == [2 + 3, 2 + 5, 2 + 6]
    for outcome, source in zip(outcomes, (SOURCE, LONGER), strict=True):
        assert_same(outcome, alone(bench, cells, site=MID, source=source))


def test_attention_may_be_eager_and_its_mask_follows(bench):
    cells, site = [(layer, 1) for layer in LAYERS], "layers.{}.attn.scores"
    stranger = ask([read("layers.1.attn.pattern")], {"pattern": 0}, LONGER)
    seen, (sweep, other) = seen_by_blocks(bench, patches(cells, site), stranger)
    # the stranger leaves behind its pattern, the source behind the last scores
    assert seen == [4, 5, 4]
    assert_same(sweep, alone(bench, cells, site=site))
    assert_same(other, {"pattern": bench.run(stranger)["pattern"]})


def test_each_request_is_told_what_it_would_have_used_alone(bench):
    shallow = ask([read("layers.0.resid_post")], {"h": 0}, TARGET)
    outcomes = bench.run_all(shallow, patches(CELLS))
    assert [(o.done.cost.n_tokens, o.done.cost.n_layers_run) for o in outcomes] == [(7, 1), (7 * 13, 3)]


def test_what_spreads_in_one_prompt_stays_there(bench):
    nodes = [write(NAN, MID.format(1)), read("logits"), read("logits", invoke=1)]
    poisoned = ask(nodes, {"nan": 1, "clean": 2}, TARGET, TARGET)
    outcome, sweep = bench.run_all(poisoned, patches(CELLS))
    assert outcome.done.non_finite == ("nan",)
    assert_same(outcome, {"clean": bench.run(ask([read("logits")], {"clean": 0}, TARGET))["clean"]})
    assert_same(sweep, alone(bench, CELLS))


def test_a_carried_write_whose_prompt_is_done_before_the_sum_is_forgotten(bench):
    done = ask([write(ONE, MID.format(0)), read("layers.0.mlp.out")], {"out": 1}, TARGET)
    outcomes = bench.run_all(done, patches(CELLS))
    assert_same(outcomes[0], {"out": bench.run(done)["out"]})
    assert_same(outcomes[1], alone(bench, CELLS))


def test_a_model_that_does_not_bear_it_after_all_runs_with_the_rows_of_the_start(bench):
    expected = alone(bench, CELLS)
    seen = []

    def one_size(block, args):
        seen.append(len(args[0]))
        if block is not bench.model.transformer.h[0] and seen[-1] != seen[-2]:
            raise RuntimeError("so many rows were not announced")

    handles = [block.register_forward_pre_hook(one_size) for block in bench.model.transformer.h]
    outcome = bench.run(patches(CELLS))
    for handle in handles:
        handle.remove()
    assert_same(outcome, expected)
    assert seen == [2, 6, *[len(CELLS) + 1] * 3]


def test_gradients_take_rows_of_their_own(bench):
    nodes = [read("layers.0.resid_post"), read("logits"), call("torch.sum", Ref(1)), call("site.grad", Ref(2), Ref(0))]
    seen, _ = seen_by_blocks(bench, ask(nodes, {"g": 3}, TARGET), ask(nodes, {"g": 3}, TARGET))
    assert seen == [2, 2, 2]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sweeps_of_every_family_are_what_single_patches_are(architecture):
    bench = Bench.tiny(architecture)
    sites = [site for site in ("layers.{}.resid_post", MID) if site.format(0) in bench.engine.describe().sites]
    cells = [(layer, position) for layer in LAYERS for position in (0, 3, 5)]
    for site in sites:
        first, second = bench.run_all(patches(cells, site), patches(cells, site, source=LONGER))
        assert_same(first, alone(bench, cells, site=site))
        assert_same(second, alone(bench, cells, site=site, source=LONGER))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["mistral", "gemma3", "opt"])
def test_equal_prompts_share_a_prefill_whatever_their_cache_is(architecture):
    """Windows narrower than the prompt among them."""
    bench, generation = Bench.tiny(architecture), Generation(4, ignore_eos=True)
    last = [read("logits", invoke=invoke, positions=(-1,)) for invoke in range(3)]
    turned = [read("logits"), call("torch.neg", Ref(0)), write(Ref(1), "logits")]
    prompts, outputs = (TARGET, TARGET, LONGER), {"0": 3, "1": 4, "2": 5}
    together = bench.run(ask([*turned, *last], outputs, *prompts, generation=generation))
    assert_same(together, {"0": bench.run(ask([*turned, last[0]], {"x": 3}, TARGET, generation=generation))["x"]})
    for invoke in (1, 2):
        single = bench.run(ask([last[0]], {"x": 0}, prompts[invoke], generation=generation))["x"]
        assert_same(together, {f"{invoke}": single})
