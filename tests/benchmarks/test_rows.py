"""Benchmarks: how rows are made of measurements. What they measure is not tested, only that it can be."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.attribution import SHAPE, letters
from benchmarks.backpack import letters as backpack_letters
from benchmarks.backpack import tokens
from benchmarks.cobatch_generate import arrivals
from benchmarks.harness.backpack_folder import write_backpack
from benchmarks.harness.claims import all_claims
from benchmarks.harness.model_folder import write_model
from benchmarks.harness.peer_environment import BACKPACK, INSEQ
from benchmarks.harness.row import limit_row, rate_row, time_row
from benchmarks.harness.side import Side
from benchmarks.harness.sizes import QUICK
from benchmarks.harness.timing import in_turn, medians

ROOT = Path(__file__).parents[2]
ROWS = {
    *("overhead", "cobatch", "cobatch-generate", "patching-sweep", "early-stop", "checker", "stream"),
    *("peer-serial", "peer-batched"),
}
OF_ATTRIBUTION = {"occlusion", "saliency-span", "saliency", "ig", "ig-span", "cat", "memory"}
OF_BACKPACKS = {"decode", "forward", "edit", "variants", "bias"}


def test_half_the_time_is_twice_as_good():
    assert time_row("x", ours=1.0, theirs=2.0, unit="s", at_least=2.0).ratio == 2.0


def test_twice_the_throughput_is_twice_as_good():
    assert rate_row("x", ours=2.0, theirs=1.0, unit="MB/s", at_least=2.0).ratio == 2.0


def test_half_of_a_limit_is_twice_as_good():
    row = limit_row("x", measured=100.0, limit=200.0, unit="ms")
    assert (row.ratio, row.at_least, row.ours, row.theirs) == (2.0, 1.0, 100.0, 200.0)


def test_a_claim_holds_when_its_ratio_is_reached():
    assert time_row("x", 1.0, 2.0, "s", at_least=2.0).holds
    assert not time_row("x", 1.0, 1.99, "s", at_least=2.0).holds


def test_sides_take_turns_at_going_first_and_warm_up():
    order = []

    def side(name):
        return lambda number: order.append(f"{name}{number}") or float(number)

    found = in_turn({"a": side("a"), "b": side("b")}, 3, n_warm=1)
    assert order == ["b0", "a0", "a1", "b1", "b2", "a2", "a3", "b3"]
    assert found == {"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, 3.0]}


def test_what_counts_is_the_median():
    assert medians({"a": [1.0, 100.0, 2.0], "b": [4.0, 2.0]}) == {"a": 2.0, "b": 3.0}


def test_users_arrive_one_by_one_within_the_time_and_always_the_same():
    times = arrivals(16, 2.0)
    assert times == sorted(times) == arrivals(16, 2.0)
    assert (times[0], times[-1]) == (0.0, 2.0)


def test_the_claims_of_the_first_table_come_first():
    assert list(all_claims())[:8] == [
        *("overhead", "cobatch", "cobatch-generate", "patching-sweep"),
        *("early-stop", "checker", "stream", "peer"),
    ]


def rows_of(*names):
    """What a run of toy sizes prints, by name."""
    command = [sys.executable, "-m", "benchmarks", *names, "--quick", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(set(row) == {"name", "ours", "theirs", "unit", "ratio", "at_least"} for row in rows)
    return {row["name"] for row in rows}


@pytest.mark.slow
def test_every_benchmark_runs_and_gives_its_rows():
    assert rows_of(*(name for name in all_claims() if name not in ("attribution", "backpack"))) == ROWS


def needs(peer):
    """The mark of a test against a peer."""
    reason = f"the peer needs an environment of its own: {peer.variable}=ITS_PYTHON"
    return pytest.mark.skipif(peer.variable not in os.environ, reason=reason)


@pytest.mark.slow
@needs(INSEQ)
def test_attribution_runs_against_inseq():
    assert rows_of("attribution") == {f"attribution-{name}" for name in OF_ATTRIBUTION}


@pytest.mark.slow
@needs(BACKPACK)
def test_backpacks_run_against_the_published_code():
    assert rows_of("backpack") == {f"backpack-{name}" for name in OF_BACKPACKS}


@pytest.mark.slow
def test_our_side_of_attribution_does_each_job(tmp_path):
    write_model(tmp_path / "model", replace(SHAPE, n_layers=2, d_model=32, n_heads=4))
    texts = {"prompt": letters(1, 4), "text": letters(2, 4)}
    with Side(sys.executable, "attribution_side.py", tmp_path / "model", tmp_path) as ours:
        matrix = ours.do("matrix", method="saliency", options={}, **texts)
        span = ours.do("span", method="input_x_gradient", options={"reduce": "sum"}, **texts)
        each = ours.do("matrix", method="input_x_gradient", options={"reduce": "sum"}, **texts)
        traced = ours.do("cat", prompt="abcd", text="a", foil="b", n_layers=2)
        with pytest.raises(RuntimeError, match=r"attribution_side\.py, matrix: .*'salience'"):
            ours.do("matrix", method="salience", options={}, **texts)
    assert matrix.scores.shape == (8, 4)
    assert matrix.cpu_s > 0.0
    np.testing.assert_allclose(span.scores, each.scores[:4].sum(1), rtol=1e-4, atol=1e-7)
    assert traced.scores.shape == (2, 4)


@pytest.mark.slow
def test_our_side_of_backpacks_does_each_job(tmp_path):
    write_backpack(tmp_path / "model", QUICK, n_senses=4)
    ids, edits = tokens(backpack_letters(1, 32)), [(tokens("a")[0], 0, 2.0), (tokens("b")[0], 1, 0.0)]
    with Side(sys.executable, "backpack_side.py", tmp_path / "model", tmp_path) as ours:
        whole = ours.do("forward", ids=ids).scores
        by_steps = ours.do("decode", ids=ids, n_steps=4).scores
        moved = ours.do("effects", ids=ids, edits=edits, targets=[0, 1, 2]).scores
        asked = {"prompt": backpack_letters(2, 8), "edits": edits, "n_new": 3}
        together, alone = (ours.do("variants", together=one, **asked).scores for one in (True, False))
        found = ours.do("bias", prompt="ab{}c", words=tokens("XY"), pair=tokens("ab"), factors=[0.0, 1.0]).scores
    np.testing.assert_allclose(by_steps, whole, atol=1e-4)
    assert moved.shape == (2, 3)
    assert (moved != whole[:3]).any()
    assert together.shape == (2, 3)
    np.testing.assert_array_equal(together, alone)
    assert found.shape == (2, 4, 2)
    np.testing.assert_allclose(found[:, :, 1], found[:, :1, 1].repeat(4, axis=1))


def test_an_unknown_benchmark_is_refused_with_those_that_there_are(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["overhaed"])
    assert caught.value.code == 2
    assert "no benchmark 'overhaed'; there are overhead, cobatch" in capsys.readouterr().err


def test_what_there_is_can_be_listed_without_measuring(capsys):
    assert main(["--list"]) == 0
    assert "patching-sweep" in capsys.readouterr().out
