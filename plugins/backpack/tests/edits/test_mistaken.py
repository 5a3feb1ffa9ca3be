"""What is no edit, no operation or no prompt is refused where it is given, with what to do."""

import warnings

import numpy as np
import pytest

from interpd_backpack.edits import AddDelta, MaskWeights, OrderMatters, Remove, Scale, Set
from interpd_client import CallerError

SCALE = Scale("nurse", 0, 0.5)
PROMPT = "The nurse said"
VECTOR = np.arange(1.0, 25.0)
NO_EDITS = [
    (
        SCALE,
        r"expected an edit.*got an operation \(scale sense 0 of 'nurse' by 0.5\): model.backpack.edit\(...\) makes",
    ),
    (3, "expected an edit.*got 3"),
]


def _in_force(part, edit):
    with part._model.trace(PROMPT) as t:
        part.with_edit(t, edit)


ASKED = {
    "dry run": lambda part, edit: part.dry_run(edit),
    "trace": _in_force,
    "contributions": lambda part, edit: part.contributions(PROMPT, "she", under=edit),
    "over texts": lambda part, edit: part.contributions_over([PROMPT], "she", under=edit),
    "bias": lambda part, edit: part.rank_bias(["nurse"], ["The {} said"], under=edit),
    "effects": lambda part, edit: part.effects(PROMPT, edit),
    "generate": lambda part, edit: part.generate(PROMPT, edit, max_new_tokens=1),
    "one of several": lambda part, edit: part.generate(PROMPT, [None, edit], max_new_tokens=1),
    "evaluate": lambda part, edit: part.evaluate("bias", edit=edit),
    "diff": lambda part, edit: part.edit(SCALE).diff(edit),
    "transfer": lambda part, edit: part.transfer(edit, part._model, ["The nurse said that"]),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_what_is_no_edit_is_refused_with_how_one_is_made(part, ask):
    for given, message in NO_EDITS:
        with pytest.raises(CallerError, match=message):
            ask(part, given)


def test_none_or_a_list_is_no_edit_in_a_trace(part):
    edit = part.edit(SCALE)
    with pytest.raises(CallerError, match="expected an edit, got None"):
        _in_force(part, None)
    with pytest.raises(CallerError, match=r"got a list of 2: edits are put together with first \+ second"):
        _in_force(part, [edit, edit])


def test_one_edit_or_function_is_a_variant_without_a_list(part):
    edit = part.edit(SCALE, name="half")
    assert part.generate(PROMPT, edit, max_new_tokens=1).names == ("half",)
    assert part.generate(PROMPT, lambda p: None, max_new_tokens=1).names == ("variant 0",)
    assert part.generate(PROMPT, max_new_tokens=1).names == ("unedited",)


def test_operations_in_a_list_or_edits_are_no_operations(part):
    with pytest.raises(CallerError, match=r"one by one, without the list: edit\(first, second\)"):
        part.edit([SCALE])
    with pytest.raises(CallerError, match=r"'half' is an edit and no operation: .*first \+ second"):
        part.edit(part.edit(SCALE, name="half"))


def test_no_prompt_is_refused(part):
    edit = part.edit(SCALE)
    for ask in (lambda: part.effects([], edit), lambda: part.generate([], edit, max_new_tokens=1)):
        with pytest.raises(CallerError, match="there is no prompt"):
            ask()
    with pytest.raises(CallerError, match="the prompt is empty"):
        part.contributions("", "she")


def test_what_is_compared_with_itself_is_refused(part):
    with pytest.raises(CallerError, match="nothing pushes 'she' rather than itself"):
        part.reverse("she", against=" she")
    with pytest.raises(CallerError, match="the difference of 'she' and itself is zero"):
        part.contributions(PROMPT, "she", contrast=" she")


@pytest.mark.parametrize("given", [True, 0, 1.0, 2, "0.1", float("nan")])
def test_negative_only_is_a_quantile(given):
    with pytest.raises(CallerError, match="negative_only is a quantile between 0 and 1, got"):
        MaskWeights("nurse", 0, 2.0, negative_only=given)


def test_a_sum_warns_once_where_its_order_matters(part):
    half, put = (
        part.edit(SCALE, name="half"),
        part.edit(Set("nurse", 0, VECTOR), AddDelta("nurse", 1, VECTOR), name="put"),
    )
    with pytest.warns(OrderMatters, match=r"'half \+ put': operations 0 and 1 meet at sense 0 .*order matters") as told:
        both = half + put
    assert (len(told), told[0].filename) == (1, __file__)
    assert [(one.first, one.second) for one in both.conflicts()] == [(0, 1)]
    with pytest.warns(OrderMatters, match=r"and 1 more: see conflicts\(\)") as told:
        put + part.edit(Remove("nurse", "all"))
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # what is inside each was told when it was made
        both + part.edit(Scale("doctor", 0, 0.5))
        half + part.edit(Remove("nurse", 0))
        moved = part.edit(SCALE, AddDelta("nurse", 0, VECTOR), on_conflict="allow")
        moved + moved.inverse()
        moved.inverse() + moved
