"""Views: every score is there, where it belongs and in its colour; nothing in a token can do harm."""

import base64
import dataclasses
import html
import re
import struct
import sys
import zlib
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from interpd.errors import CallerError
from interpd_attribution.attribution import Token
from interpd_attribution.attributions import Attributions
from interpd_attribution.views import Look, heatmap, highlights, layers, terminal
from interpd_attribution.views.colours import BLUE, RED, Scale, over_white, scale
from interpd_attribution.views.labels import label, title

EVIL = (
    '<script>alert("x")</script>',
    "</td></table><img src=x onerror=alert(1)>",
    '"><b onmouseover=alert(1)>',
    "&lt;",
)


TAGS = "style div h3 h4 small span table thead tbody tr th td bdi i p mark details summary wbr br figure figcaption"


class Read(HTMLParser):
    """Elements with their attributes and texts; elements that are not closed are an error."""

    OPEN = frozenset(("meta", "br", "wbr", "img"))

    def __init__(self, text):
        super().__init__()
        self.elements, self.stack = [], []
        self.feed(text)
        assert not self.stack, self.stack

    def handle_starttag(self, tag, attrs):
        element = SimpleNamespace(tag=tag, attrs=dict(attrs), text="")
        self.elements.append(element)
        if tag not in self.OPEN:
            self.stack.append(element)

    def handle_endtag(self, tag):
        assert self.stack.pop().tag == tag

    def handle_data(self, data):
        for element in self.stack:
            element.text += data

    def all(self, tag):
        return [element for element in self.elements if element.tag == tag]


@pytest.fixture
def evil(make):
    return make(source=(*EVIL, "a\u202eb"), target=("<pad>", *EVIL), info={"attribution_method": EVIL[0]})


def printed(renderable, width=100):
    console = Console(width=width, color_system="truecolor", force_terminal=True, legacy_windows=False, _environ={})
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def plain(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_every_score_is_in_the_table_rounded_and_exactly_on_hover(make):
    one = make()
    cells = [cell for cell in Read(one.html()).all("td") if "title" in cell.attrs]
    n_finite = int(np.isfinite(one.scores).sum())
    assert len(cells) == n_finite + 8
    first = cells[0]
    assert first.attrs["title"] == f"▁the → ▁die: {one.source_attributions[0, 0]!s}"
    assert float(first.text) == pytest.approx(one.source_attributions[0, 0], abs=5e-4)
    empty = [cell for cell in Read(one.html()).all("td") if cell.attrs.get("class") == "x"]
    assert len(empty) == int(np.isnan(one.scores).sum())


def test_colours_are_symmetric_around_zero_for_signed_scores(make):
    one = make(source_attributions=np.array([[0.25, -0.5, 0.0, 0.5]] * 4), target_attributions=None)
    cells = Read(one.html()).all("td")[:4]
    assert cells[0].attrs["style"] == "--a:0.5"
    assert (cells[1].attrs["class"], cells[1].attrs["style"]) == ("n s", "--a:1")
    assert "style" not in cells[2].attrs
    legend = next(item for item in Read(one.html()).all("div") if item.attrs.get("class") == "legend")
    assert legend.text == "-0.50.5"


def test_ends_of_the_colours_are_what_they_are_told(make):
    one = make(source_attributions=np.array([[0.25, -0.5, 0.0, 0.5]] * 4), target_attributions=None)
    cells = Read(one.html(min_val=-1, max_val=0.25)).all("td")[:4]
    assert [cell.attrs.get("style") for cell in cells] == ["--a:1", "--a:0.5", None, "--a:1"]
    with pytest.raises(CallerError, match="colours go from 1 to 0; min_val must be below max_val"):
        one.html(min_val=1, max_val=0)


@pytest.mark.parametrize("view", ["show", "show_tokens", "show_granular"])
def test_tokens_cannot_inject_html(evil, view):
    shown = evil if view != "show_granular" else with_layers(evil)
    read = Read(getattr(shown, view)(display=False, return_html=True))
    tags = {element.tag for element in read.elements}
    assert tags <= set(TAGS.split())
    allowed = {"class", "style", "title", "open"}
    assert not [element for element in read.elements if element.attrs.keys() - allowed]
    texts = {element.text for element in read.all("bdi")}
    assert {*EVIL, "a\\u202eb"} <= texts


def with_layers(one):
    arrays = ("source_attributions", "target_attributions")
    return dataclasses.replace(one, dims=("layer",), **{name: getattr(one, name)[..., None] for name in arrays})


@pytest.mark.parametrize("view", ["show", "show_tokens", "show_granular"])
def test_views_need_nothing_from_elsewhere(make, view):
    one = make(dims={"layer": 2})
    text = getattr(one, view)(display=False, return_html=True)
    assert not re.search(r"https?:|//|@import|url\(|<script|<link|<img|srcset", text)
    assert "prefers-color-scheme:dark" in text
    assert "data-jp-theme-light=false" in text


def test_a_page_is_a_document_of_its_own(make):
    text = make().html(page=True)
    assert text.startswith("<!doctype html>")
    assert 'charset="utf-8"' in text
    Read(text.removeprefix("<!doctype html>"))


def test_long_sequences_scroll_and_keep_their_heads(make, monkeypatch):
    one = make(target=tuple(f"token{number}" for number in range(30)))
    assert "token1 → token2: " in one.html()
    monkeypatch.setattr(heatmap, "WELL_LABELLED", 200)
    text = one.html()
    assert re.search(r"\.scroll\{overflow:auto;max-height", text)
    assert "position:sticky" in text
    assert Read(text).all("thead")[0].attrs == {"class": "up"}
    # a title for each pair of tokens would make large tables twice as large
    assert "token1 → token2: " not in text


def test_what_is_too_large_for_a_table_is_a_picture(make, monkeypatch):
    monkeypatch.setattr(heatmap, "MOST_CELLS", 10)
    one = make(source_attributions=np.array([[0.5, -0.25, 0.0, 1.0]] * 4), target_attributions=None)
    read = Read(one.html())
    (image,) = read.all("img")
    head, _, data = image.attrs["src"].partition(",")
    assert (head, image.attrs["width"], image.attrs["height"]) == ("data:image/png;base64", "1024", "1024")
    assert "4 inputs and 4 generated tokens are drawn without numbers" in read.all("p")[0].text
    assert pixels(base64.b64decode(data))[0].tolist() == [[*RED, 128], [*BLUE, 64], [*RED, 0], [*RED, 255]]


def pixels(file):
    """The pixels of a PNG without filters; every chunk is as long and has the sum that it says."""
    assert file.startswith(b"\x89PNG\r\n\x1a\n")
    at, chunks = 8, {}
    while at < len(file):
        (length,) = struct.unpack(">I", file[at : at + 4])
        name, data = file[at + 4 : at + 8], file[at + 8 : at + 8 + length]
        assert struct.unpack(">I", file[at + 8 + length : at + 12 + length]) == (zlib.crc32(name + data),)
        chunks[name] = data
        at += 12 + length
    n_columns, n_rows = struct.unpack(">II", chunks[b"IHDR"][:8])
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(n_rows, 1 + 4 * n_columns)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(n_rows, n_columns, 4)


def test_each_of_several_results_has_its_table_and_heading(make):
    several = Attributions((make(), make(dims={"head": 2})), {"attribution_method": "ig", "attributed_fn": "logit_fn"})
    read = Read(several.html())
    assert [item.text for item in read.all("h3")] == [
        "1 of 2: ig of logit; raw scores",
        "2 of 2: ig of logit; mean over heads, shares of each column",
    ]
    assert len(read.all("style")) == 1
    assert several._repr_html_() == several.html()


def test_step_scores_stand_below_in_another_colour(make):
    one = make(step_scores={"probability": np.array([0.5, 1.0, 0.25, 0.0])})
    read = Read(one.html())
    cells = [cell for cell in read.all("td") if "probability" in cell.attrs.get("title", "")]
    assert [cell.attrs.get("style") for cell in cells] == ["--a:0.5", "--a:1", "--a:0.25", None]
    assert cells[1].attrs["class"] == "g s"


def test_a_result_with_step_scores_only_is_shown(make):
    one = make(source_attributions=None, target_attributions=None)
    assert "Step scores" in one.html()
    assert "probability" in plain(printed(terminal.heatmap(one, Look(), 100)))


def test_numbers_are_written_in_a_unit_that_can_be_read(make):
    one = make()
    small = dataclasses.replace(one, source_attributions=one.source_attributions * 1e-7, target_attributions=None)
    text = small.html()
    assert "numbers ×10⁻⁹" in text or "numbers ×10⁻⁶" in text
    assert "0.000</td>" not in text.split("</table>")[0].replace(">0.000", "", 1)
    assert (Scale(0, 5e-7).unit, Scale(0, 5e-7).written(5e-7)) == ("×10⁻⁹", "500.000")
    assert (Scale(-1, 1).unit, Scale(-1, 1).written(-1e-9)) == ("", "0.000")


def test_layers_and_heads_are_panes_in_rows_and_columns(make):
    one = make(dims={"layer": 2, "head": 3})
    read = Read(one.show_granular(display=False, return_html=True))
    names = [item.text for item in read.all("figcaption")]
    assert names[:4] == ["layer 0, head 0", "layer 0, head 1", "layer 0, head 2", "layer 1, head 0"]
    assert len(names) == 12
    assert len([item for item in read.all("div") if item.attrs.get("class") == "row"]) == 4
    cell = next(item for item in read.all("td") if "head 1" in item.attrs.get("title", ""))
    assert cell.attrs["title"] == f"layer 0, head 1, ▁the → ▁die: {one.source_attributions[0, 0, 0, 1]!s}"
    by_layer = Read(one.show_granular(display=False, return_html=True, show_dim="layer"))
    assert [item.text for item in by_layer.all("figcaption")][:2] == ["layer 0, head 0", "layer 1, head 0"]


def test_large_axes_are_cut_and_say_so(make):
    one = make(dims={"d_model": 50})
    read = Read(one.show_granular(display=False, return_html=True))
    assert len(read.all("figcaption")) == 40
    assert [item.text for item in read.all("p")] == [
        "d_model 0 to 19 of 50; slice_dims and max_show_size show others"
    ] * 2
    cut = Read(one.show_granular(display=False, return_html=True, slice_dims={2: (30, 33)}))
    assert [item.text for item in cut.all("figcaption")][:3] == ["d_model 30", "d_model 31", "d_model 32"]
    assert len(Read(one.show_granular(display=False, return_html=True, max_show_size=5)).all("figcaption")) == 10


@pytest.mark.parametrize(
    ("dims", "options", "said"),
    [
        ({"d_model": 50}, {"show_dim": 2}, r"d_model has 50 entries, more than max_show_size \(20\)"),
        ({"layer": 2}, {"show_dim": "head"}, r"no axis 'head' beside the tokens; there are: 'layer' \(2\)"),
        ({"layer": 2}, {"slice_dims": {"layer": (1, 4)}}, r"slice_dims has 'layer': \(1, 4\), but layer has 2 entries"),
        ({"a": 2, "b": 2, "c": 2}, {}, "two of the axes a, b, c can be shown"),
        ({}, {}, "this result has no axes beside its tokens"),
        ({"layer": 2}, {"max_show_size": 0}, "max_show_size is 0"),
        ({"layer": 80, "head": 80}, {"max_show_size": 80}, "cells are more than 100000"),
    ],
)
def test_panes_that_cannot_be_are_refused(make, dims, options, said):
    with pytest.raises(CallerError, match=said):
        make(dims=dims).show_granular(display=False, return_html=True, **options)


def test_what_an_aggregator_leaves_is_shown_as_panes(make):
    one = make(dims={"layer": 2, "head": 3})
    assert Read(one.html(aggregator="mean")).all("figcaption")[0].text == "1 → ▁die"
    assert len(Read(one.html(aggregator="mean", show_dim="layer")).all("figcaption")) == 4
    assert Read(one.html(aggregator=["mean", "mean"], normalize=False)).all("figcaption") == []
    assert len(Read(one.html(do_aggregation=False)).all("figcaption")) == 12


def test_each_generated_token_unfolds_into_what_stood_before_it(make):
    one = make()
    read = Read(one.show_tokens(display=False, return_html=True, step_score_highlight="probability"))
    assert len(read.all("details")) == 4
    assert [bool("open" in item.attrs) for item in read.all("details")] == [True, False, False, False]
    marks = [mark for mark in read.all("mark") if mark.attrs.get("title", "").startswith("<pad>")]
    assert marks[0].attrs["title"] == f"<pad>: {one.target_attributions[0, 0]!s}"
    assert len(marks) == 4
    scores = [item.text for item in read.all("summary")]
    assert scores[0] == f"▁die probability {one.step_scores['probability'][0]:.4g}"
    with pytest.raises(CallerError, match="no step score 'logit' to highlight; there are: probability, entropy"):
        one.show_tokens(display=False, return_html=True, step_score_highlight="logit")


def test_more_tokens_than_a_page_can_hold_are_refused(make, monkeypatch):
    monkeypatch.setattr(highlights, "MOST_MARKS", 20)
    with pytest.raises(CallerError, match="26 tokens to colour are more than 20; keep fewer inputs with"):
        make().show_tokens(display=False, return_html=True)


def test_lines_of_tokens_are_wrapped_where_they_are_told():
    assert [Look(wrap_after=2).wraps("x", number) for number in range(4)] == [False, True, False, True]
    assert [Look(wrap_after=".!?").wraps(text, 0) for text in (".", "?", ".!?", "a")] == [True, True, True, False]
    assert [Look(wrap_after="hi").wraps(text, 0) for text in ("hi", "h", "i")] == [True, False, False]
    assert Look(wrap_after=["a", "b"]).wraps("b", 0)
    assert not Look().wraps("a", 0)
    with pytest.raises(CallerError, match="wrap_after is 0"):
        Look(wrap_after=0)


def test_characters_in_tokens_are_replaced_for_the_picture_only(make):
    text = make().show_tokens(display=False, return_html=True, replace_char={"▁": " "}, wrap_after=["cat"])
    assert "▁" not in html.unescape(text.replace("</style>", "", 1))
    assert "<br>" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a↵b"),
        ("\t", "⇥"),
        (" ", "␣"),
        ("", "∅"),
        ("\x1b[31m", "\\u001b[31m"),
        ("é▁", "é▁"),
        ("\u200b", "\\u200b"),
    ],
)
def test_what_cannot_be_seen_is_written_out(text, shown):
    assert label(Token(text, 0)) == shown


def test_the_terminal_shows_the_same_numbers(make):
    one = make()
    text = plain(printed(terminal.heatmap(one, Look(), 100)))
    for value in one.scores[np.isfinite(one.scores)]:
        assert f"{value:.3f}".replace("-0.000", "0.000") in text
    assert "Source attribution" in text
    assert "entropy" in text


def test_wide_tables_are_cut_to_the_terminal(make):
    one = make(target=tuple(f"▁token{number}" for number in range(16)))
    text = plain(printed(terminal.heatmap(one, Look(), 60), width=60))
    assert max(map(len, text.splitlines())) <= 60
    assert all(f"▁token{number}" in text for number in range(1, 16))
    assert "…" not in text
    layers = with_layers(dataclasses.replace(one, step_scores={}))
    text = plain(printed(terminal.panes(layers, Look(), 30), width=30))
    assert max(map(len, text.splitlines())) <= 30
    assert text.count("layer 0") == 4


def test_long_labels_are_cut_in_a_terminal(make):
    one = make(source=("a sentence " * 20,), target=("<pad>", "▁x"))
    text = plain(printed(terminal.heatmap(one, Look(), 60), width=60))
    assert "a sentence a sentence a sentenc…" in text


def test_long_labels_of_columns_are_whole_where_there_is_room(make):
    one = make(source=(), target=("<s>", "▁Glimmer → ▁Mirefield", "▁Jorvik → ▁Mirefield"))
    wide, narrow = (plain(printed(terminal.heatmap(one, Look(), width), width=width)) for width in (100, 60))
    assert "▁Glimmer → ▁Mirefield   ▁Jorvik → ▁Mirefield" in wide
    assert "▁Glimmer → ▁Mir…" in narrow


def test_what_writes_no_numbers_tells_no_unit_of_them(make):
    small = make(dims={"layer": 2}, source_attributions=None)
    small = dataclasses.replace(small, target_attributions=small.target_attributions * 1e-7)
    for options in ({}, {"show_dim": "layer"}):
        assert "numbers ×10" not in small.show_granular(display=False, return_html=True, **options)
    assert "numbers ×10" in small.html(normalize=False)


def test_the_terminal_is_not_steered_by_tokens(evil):
    """Neither rich's markup nor escape sequences in a token have an effect."""
    one = dataclasses.replace(evil, source=tuple(Token("[red]\x1b[2J", 0) for _ in evil.source))
    for renderable in (
        terminal.heatmap(one, Look(), 200),
        terminal.panes(with_layers(one), Look(), 200),
        terminal.highlights(one, Look()),
    ):
        text = printed(renderable, width=200)
        assert "\x1b[2J" not in text
        assert "[red]\\u001b[2J" in plain(text)


def test_panes_and_tokens_have_a_terminal_view(make):
    panes = plain(printed(terminal.panes(make(dims={"layer": 2}), Look(), 100)))
    assert "layer 0" in panes
    assert "layer 1" in panes
    tokens = plain(printed(terminal.highlights(make(), Look(step_score_highlight="entropy", wrap_after=2))))
    assert "→ ▁die" in tokens
    assert "entropy" in tokens


def test_panes_without_colours_have_numbers(make):
    one = make(dims={"layer": 2})
    panes = plain(printed(terminal.panes(one, Look(), 100, is_plain=True)))
    assert "; 9 is the largest" in " ".join(panes.split())
    row = next(line for line in panes.splitlines() if "▁the" in line).split()
    scores = one.source_attributions[0, :, 0]
    largest = max(np.nanmax(np.abs(one.source_attributions)), np.nanmax(np.abs(one.target_attributions)))
    assert row[1:] == [str(round(9 * float(score / largest))) for score in scores]


@pytest.fixture
def mapped(make):
    """Two sites of three layers, one entry each."""
    sites = [f"layers.{number}.{site}" for site in ("attn.out", "mlp.out") for number in range(3)]
    return make(dims={"layer": 6}, info={"layers": sites})


def test_layers_are_a_map_for_each_generated_token(mapped):
    read = Read(mapped.show_granular(display=False, return_html=True))
    names = [item.text for item in read.all("figcaption")]
    assert names == ["1 → ▁die", "2 → ▁Katz", "3 → en", "4 → </s>"] * 2
    assert [item.text for item in read.all("small")] == ["→ layers of attn.out, mlp.out, ↓ inputs"] * 2
    heads = [item.text for item in read.all("th")][:10]
    assert heads == ["", "attn.out", "mlp.out", "", "0", "1", "2", "0", "1", "2"]
    cells = [cell for cell in read.all("td") if "title" in cell.attrs]
    assert len(cells) == int(np.isfinite(mapped.scores).sum())
    assert cells[4].attrs["title"] == f"layer mlp.out 1, ▁the → ▁die: {mapped.source_attributions[0, 0, 4]!s}"
    # the rows of inputs that come later are left out
    assert not [cell for cell in read.all("td") if cell.attrs.get("class") == "x"]


def test_a_map_of_layers_has_all_of_them_unless_it_is_told(make):
    one = make(dims={"layer": 40})
    heads = [item.text for item in Read(one.show_granular(display=False, return_html=True)).all("th")]
    assert heads[:42] == ["", *map(str, range(40)), "▁the"]
    cut = Read(one.show_granular(display=False, return_html=True, slice_dims={"layer": (30, 34)}, max_show_size=2))
    assert [item.text for item in cut.all("th")][:4] == ["", "30", "31", "▁the"]
    assert cut.all("p")[0].text == "layer 30 to 31 of 40; slice_dims and max_show_size show others"


def test_a_terminal_shows_the_map_of_layers_with_its_heads(mapped, capsys):
    mapped.show_granular()
    text = plain(capsys.readouterr().out)
    lines = [line.strip() for line in text.splitlines()]
    block = lines[lines.index("1 → ▁die") + 1 :]
    assert "→ layers of attn.out, mlp.out, ↓ inputs" in " ".join(text.split())
    assert (block[0].split(), block[1].split()) == (["attn.out", "mlp.out"], list("012012"))
    assert block[2].split()[0] == "▁the"
    largest = max(np.nanmax(np.abs(mapped.source_attributions)), np.nanmax(np.abs(mapped.target_attributions)))
    ninths = [str(round(9 * float(score / largest))) for score in mapped.source_attributions[0, 0]]
    assert block[2].split()[1:] == ninths
    narrow = plain(printed(terminal.layer_maps(mapped, Look(), 26), width=26)).splitlines()
    assert max(map(len, narrow)) <= 26


@pytest.mark.parametrize(
    ("names", "shown", "said"),
    [
        (["layers.0.mlp.out", "layers.1.mlp.out"], [("", "0"), ("", "1")], "layers of mlp.out"),
        (
            ["encoder.layers.1.mlp.out", "decoder.layers.1.mlp.out"],
            [("encoder", "1"), ("decoder", "1")],
            "layers of mlp.out",
        ),
        (
            ["transformer.h.3.mlp.output", "embed.out"],
            [("", "transformer.h.3.mlp.output"), ("", "embed.out")],
            "layers",
        ),
        (["3", "5"], [("", "3"), ("", "5")], "layers"),
        (["only one"], [("", "0"), ("", "1")], "layers"),
    ],
)
def test_layers_are_named_by_what_tells_them_apart(make, names, shown, said):
    one = make(dims={"layer": 2}, info={"layers": names})
    assert layers.layers(one, 2) == shown
    assert layers.axis(one, 2) == said


@pytest.mark.parametrize(
    ("dims", "options", "said"),
    [
        ({}, {}, "raw scores"),
        ({}, {"normalize": True}, "shares of each column"),
        ({}, {"rescale": True}, "divided by the largest"),
        ({"d_model": 2}, {}, "vnorm over d_model, shares of each column"),
        ({"layer": 2}, {"normalize": False}, "mean over layers"),
        ({"layer": 2}, {"aggregate_fn": "max", "normalize": False}, "max over layers"),
        ({"layer": 2}, {"aggregator": "scores", "select_idx": 1, "normalize": False}, "layer 1"),
        ({"layer": 2}, {"do_aggregation": False}, "raw scores"),
        ({}, {"aggregator": "spans", "source_spans": [(0, 2)], "aggregate_fn": "sum"}, "spans by sum"),
        ({}, {"aggregator": "slices", "source_spans": [(0, 2)]}, "raw scores"),
    ],
)
def test_titles_say_what_the_numbers_are(make, dims, options, said):
    one = make(dims=dims, info={"attribution_method": "saliency_vectors", "attributed_fn": "probability"})
    heading = f"saliency of probability; {said}"
    aggregation = dict(options)
    assert [item.text for item in Read(one.html(**options)).all("h3")] == [heading]
    if aggregation.pop("do_aggregation", True) and (dims or aggregation):
        assert title(one.aggregate(**aggregation)) == heading


def test_titles_name_no_target_where_there_is_none(make):
    one = make(info={"attribution_method": "attention", "attributed_fn": None})
    assert title(one) == "attention; raw scores"
    assert title(make() - make(seed=1)) == "attribution; difference of two results"
    assert title(make().weight_attributions("entropy")) == "attribution; times entropy"
    assert title(make(source_attributions=None, target_attributions=None)) == "attribution"


def test_inputs_are_named_by_what_was_read(make):
    """Columns of a contrast are ``foil → target``; what the model was given is the target."""
    one = make(source=(), target=("<s>", "a", "b → c", "d → e"), start=2, info={"attributed_fn": "contrast_prob_diff"})
    read = Read(one.html())
    assert [item.text for item in read.all("bdi")] == ["b → c", "d → e", "<s>", "a", "c", "e"]
    text = plain(printed(terminal.heatmap(one, Look(), 100)))
    assert [line.split()[:2] for line in text.splitlines() if line.split()[:1] == ["2"]][-1] == ["2", "c"]


def test_show_prints_or_returns_or_both(make, capsys):
    one = make()
    assert one.show() is None
    assert "Source attribution" in capsys.readouterr().out
    text = one.show(display=False, return_html=True)
    assert "<table>" in text
    assert capsys.readouterr().out == ""
    make(dims={"head": 2}).show_granular()
    one.show_tokens()
    assert "head 1" in capsys.readouterr().out


def test_a_notebook_gets_html(make, monkeypatch):
    shown = []
    tools = SimpleNamespace(HTML=lambda text: text, display=shown.append)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1)))
    monkeypatch.setitem(sys.modules, "IPython.display", tools)
    one = make()
    one.show()
    assert shown == [one.html()]


def test_scales_are_symmetric_where_a_score_is_negative():
    assert scale([np.array([0.2, 0.6])]) == Scale(0.0, 0.6)
    signed = scale([np.array([0.2, -0.6, np.nan, np.inf]), None])
    assert (signed.low, signed.high) == (-0.6, 0.6)
    assert (scale([np.array([np.nan])]).low, scale([np.array([np.nan])]).high) == (0.0, 1.0)
    assert signed.strength(5.0) == 1.0
    for used in (signed, Scale(0.2, 0.8), Scale(-1.0, 0.0), Scale(-2.0, 0.5)):
        values = np.linspace(-3, 3, 25)
        np.testing.assert_allclose(used.strengths(values), [used.strength(value) for value in values])
    assert over_white(0.0) == (255, 255, 255)
    assert over_white(-1.0) == (33, 102, 172)
