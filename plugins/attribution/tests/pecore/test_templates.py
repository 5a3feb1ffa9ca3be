"""Texts with places for their parts."""

from interpd_attribution.pecore.templates import Filled, Template


def test_parts_are_where_they_stand():
    filled = Template("<u>{{{context}}}\n{current}<a>", "t").filled("in ", context="a b", current="c")
    assert filled.text == "<u>{a b}\nc<a>"
    assert {name: filled.text[slice(*span)] for name, span in filled.parts.items()} == {
        "in context": "a b",
        "in current": "c",
    }


def test_braces_of_a_part_are_no_places():
    assert Template("{current}", "t").filled(current="{context} {0}").text == "{context} {0}"


def test_what_is_before_and_behind_a_part():
    template = Template("A{context}B{current}C", "t")
    assert template.before("current", context="x").text == "AxB"
    assert template.before("current", context="x").parts == {"context": (1, 2)}
    assert template.before("context", current="").text == "A"
    assert (template.behind("context"), template.behind("current")) == ("B", "C")
    assert (template.has("context"), Template("{current}", "t").has("context")) == (True, False)


def test_a_separator_stands_between_unless_it_does_already():
    one, other = Filled("a", {"x": (0, 1)}), Filled("b", {"y": (0, 1)})
    joined = one.joined(other, " - ")
    assert (joined.text, joined.parts) == ("a - b", {"x": (0, 1), "y": (4, 5)})
    assert Filled("a ", {}).joined(other, " ").text == "a b"
    assert one.joined(Filled(" b", {}), " ").text == "a b"
    assert one.joined(other, "").text == "ab"
