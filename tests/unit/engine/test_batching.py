"""Which requests share a pass, and why not."""

import pytest

from interpd.engine.batching import Candidate, PassClass, bucket, padding, reason_apart

PLAIN = PassClass(generates=False, records_grad=False, eager_attention=False, alone="")


def candidate(name, *lengths, kind=PLAIN):
    return Candidate(name, kind, lengths)


def names(chosen):
    return [item.run_id for item in chosen]


def test_requests_of_one_class_share():
    assert reason_apart(PLAIN, PLAIN) == ""


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (PassClass(True, False, False, ""), "generates"),
        (PassClass(False, True, False, ""), "gradients"),
        (PassClass(False, False, True, ""), "eager attention"),
        (PassClass(False, False, False, "dimension 0 of 'wpe.output' is not rows"), "not rows"),
    ],
)
def test_the_reason_why_two_do_not_share_is_said_whichever_comes_first(other, reason):
    assert reason in reason_apart(PLAIN, other)
    assert reason in reason_apart(other, PLAIN)


def test_the_oldest_is_always_in_and_others_follow_in_their_order():
    chosen = bucket(candidate("a", 8), [candidate("b", 8), candidate("c", 7)], max_tokens=100)
    assert names(chosen) == ["a", "b", "c"]


def test_a_length_that_would_make_too_much_padding_waits():
    chosen = bucket(candidate("long", 16), [candidate("short", 3), candidate("near", 14)], max_tokens=1000)
    assert names(chosen) == ["long", "near"]
    assert padding([16, 14]) <= 0.25 < padding([16, 3])


def test_padding_that_one_request_brings_itself_keeps_nobody_out():
    chosen = bucket(candidate("uneven", 16, 2), [candidate("long", 16)], max_tokens=1000)
    assert names(chosen) == ["uneven", "long"]


def test_a_pass_stays_within_its_tokens_with_padding_counted():
    chosen = bucket(candidate("a", 8), [candidate("b", 8), candidate("c", 8), candidate("d", 7)], max_tokens=24)
    assert names(chosen) == ["a", "b", "c"]


def test_a_request_greater_than_the_bound_runs_alone():
    assert names(bucket(candidate("big", 500), [candidate("b", 500)], max_tokens=100)) == ["big"]


def test_rows_of_one_request_are_never_parted():
    chosen = bucket(candidate("a", 8), [candidate("b", 8, 8, 8), candidate("c", 8)], max_tokens=24)
    assert names(chosen) == ["a", "c"]


def test_whoever_runs_alone_takes_no_company():
    shy = PassClass(False, False, False, "reproducible runs take a pass of their own")
    assert names(bucket(candidate("a", 8, kind=shy), [candidate("b", 8)], max_tokens=100)) == ["a"]


def sharing(name, *rows):
    return Candidate(name, PLAIN, tuple(length for _, length in rows), tuple(key for key, _ in rows))


def test_a_row_that_several_share_counts_once():
    chosen = bucket(sharing("a", ("same", 8)), [sharing("b", ("same", 8)), candidate("c", 8)], max_tokens=16)
    assert names(chosen) == ["a", "b", "c"]


def test_padding_that_costs_less_than_a_second_pass_keeps_nobody_out():
    first, second = (sharing(name, ("source", 9), (name, 5)) for name in "ab")
    assert names(bucket(first, [second], max_tokens=100)) == ["a", "b"]
    assert names(bucket(first, [candidate("c", 5)], max_tokens=100)) == ["a"]
