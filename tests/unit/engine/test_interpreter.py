"""Rows and their positions, and values that are kept no longer than they are needed."""

import pytest
import torch

from interpd.engine import rows
from interpd.engine.binding import Binding, Location
from interpd.engine.interpreter import Spot
from interpd.engine.memory import Values
from interpd.engine.rows import Frame, Row
from interpd.errors import CallerError, PositionOutOfRange
from interpd.graph.ir import Ref
from interpd.graph.schema import SiteSchema
from interpd.graph.types import Dim, TensorType


def site(name="here", *, shares_pass=True):
    dims = (Dim("batch", 1), Dim("pos"), Dim("d_model", 2))
    return SiteSchema(name, TensorType("float32", dims), 0, shares_pass=shares_pass)


HERE = Binding(site(), Location("m", "output"), causal_axes=(1,))
FULL = torch.arange(24.0).reshape(3, 4, 2)


def test_padding_on_the_right_is_cut_off():
    assert torch.equal(rows.read(FULL, HERE, Row(1, 3, 3), Frame(4)), FULL[1:2, :3])


def test_padding_on_the_left_is_cut_off():
    assert torch.equal(rows.read(FULL, HERE, Row(1, 3, 3), Frame(4, padded_left=True)), FULL[1:2, 1:])


def test_a_read_is_a_copy():
    full = FULL.clone()
    value = rows.read(full, HERE, Row(0, 4, 4), Frame(4))
    full.zero_()
    assert value.any()


@pytest.mark.parametrize("padded_left", [False, True])
def test_keys_are_cut_on_the_side_of_the_padding(padded_left):
    scores = torch.arange(2 * 1 * 3 * 5).reshape(2, 1, 3, 5)
    binding = Binding(site(), Location("m", "output"), causal_axes=(2,), key_axes=(3,))
    value = rows.read(scores, binding, Row(1, 2, 4), Frame(3, padded_left))
    assert torch.equal(value, scores[1:2, :, 1:, 1:] if padded_left else scores[1:2, :, :2, :4])


def test_a_window_of_fewer_keys_is_taken_whole():
    scores = torch.zeros(1, 1, 1, 3)
    binding = Binding(site(), Location("m", "output"), causal_axes=(2,), key_axes=(3,))
    assert rows.read(scores, binding, Row(0, 1, 9), Frame(1, True)).shape == (1, 1, 1, 3)


def test_logits_of_some_positions_are_found_by_the_rows_own_count():
    kept = FULL[:, [1, 3]]
    binding = Binding(site("logits"), Location("m", "output"), causal_axes=(1,))
    frame = Frame(4, padded_left=True, kept=(1, 3))
    assert torch.equal(rows.read_logits(kept, Row(2, 3, 3), frame, (0, -1)), FULL[2:3, [1, 3]])
    assert torch.equal(rows.read(FULL[:, 1:], binding, Row(2, 3, 3), Frame(4, True, (1, 2, 3))), FULL[2:3, 1:])


def test_a_write_changes_the_rows_own_positions_and_nothing_else():
    full = FULL.clone()
    rows.written(full, HERE, Row(1, 2, 2), Frame(4), torch.tensor(-1.0))
    assert (full[1, :2] == -1).all()
    full[1, :2] = FULL[1, :2]
    assert torch.equal(full, FULL)


def test_a_write_through_a_view_changes_that_part_only():
    binding = Binding(
        site(),
        Location("m", "output"),
        view=lambda full: full[..., :1],
        merge=lambda full, value: torch.cat([value, full[..., 1:]], -1),
        causal_axes=(1,),
    )
    full = rows.written(FULL.clone(), binding, Row(0, 4, 4), Frame(4), torch.tensor(-1.0))
    assert (full[0, :, 0] == -1).all()
    assert torch.equal(full[0, :, 1], FULL[0, :, 1])


def test_a_value_that_does_not_fit_is_refused_with_both_shapes():
    with pytest.raises(CallerError, match=r"'here'.*\[1, 3, 2\].*\[1, 4, 2\]"):
        rows.written(FULL.clone(), HERE, Row(0, 4, 4), Frame(4), torch.zeros(1, 3, 2))


def test_a_place_without_rows_is_seen_and_written_whole():
    binding = Binding(site(shares_pass=False), Location("m", "output"), causal_axes=(0,))
    table = torch.arange(8.0).reshape(4, 2)
    assert torch.equal(rows.read(table, binding, Row(0, 4, 4), Frame(4)), table)
    assert not rows.written(table.clone(), binding, Row(0, 4, 4), Frame(4), torch.tensor(0.0)).any()


def test_positions_outside_of_the_prompt_are_refused():
    assert rows.own_positions((0, -1, 2), 3) == [0, 2, 2]
    with pytest.raises(PositionOutOfRange, match="position 3 is outside of 3 tokens"):
        rows.own_positions((3,), 3)


def test_what_the_model_holds_is_copied_before_the_first_write_and_only_once():
    spot = Spot({None: FULL}, n_pos=2)
    assert spot.tensor(HERE) is FULL
    own = spot.own(HERE)
    assert own is not FULL
    assert spot.own(HERE) is own is spot.tensor(HERE)


def test_a_value_is_dropped_after_its_last_use():
    values = Values([2, 1])
    values.put(0, ("x",))
    values.release([0])
    assert values.get(Ref(0)) == "x"
    values.release([0])
    assert not values.has(0)


def test_values_that_nobody_uses_are_not_kept():
    values = Values([0])
    values.put(0, ("x",))
    assert not values.has(0)


def test_values_of_a_step_go_with_the_step_unless_they_come_back():
    values = Values([1, 1], kept_steps={1}, keep_all=True)
    for step in (0, 1):
        values.begin_step(step)
        values.put(0, (f"a{step}",), stacked=True)
        values.put(1, (f"b{step}",), stacked=True)
    assert values.get(Ref(0)) == "a1"
    values.begin_step(2)
    assert not values.has(0)
    assert values.steps_of(Ref(1)) == ["b0", "b1"]
    values.begin_step(0)
    assert values.get(Ref(1)) == "b0"


def test_a_snapshot_is_what_was():
    values = Values([1])
    values.put(0, ("x",))
    before = values.snapshot()
    values.release([0])
    assert before.get(Ref(0)) == "x"
