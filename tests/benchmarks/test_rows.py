"""Benchmarks: how rows are made of measurements. What they measure is not tested, only that it can be."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.cobatch_generate import arrivals
from benchmarks.harness.claims import all_claims
from benchmarks.harness.row import limit_row, rate_row, time_row
from benchmarks.harness.timing import in_turn, medians

ROOT = Path(__file__).parents[2]
ROWS = {
    *("overhead", "cobatch", "cobatch-generate", "patching-sweep", "early-stop", "checker", "stream"),
    *("peer-serial", "peer-batched"),
}


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


@pytest.mark.slow
def test_every_benchmark_runs_and_gives_its_rows():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["name"] for row in rows} >= ROWS
    assert all(set(row) == {"name", "ours", "theirs", "unit", "ratio", "at_least"} for row in rows)


def test_an_unknown_benchmark_is_refused_with_those_that_there_are(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["overhaed"])
    assert caught.value.code == 2
    assert "no benchmark 'overhaed'; there are overhead, cobatch" in capsys.readouterr().err


def test_what_there_is_can_be_listed_without_measuring(capsys):
    assert main(["--list"]) == 0
    assert "patching-sweep" in capsys.readouterr().out
