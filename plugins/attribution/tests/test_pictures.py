"""Views in a real browser: what it computes, and what it draws. Skipped where there is no Chromium."""

import dataclasses
import html
import json
import shutil
import struct
import subprocess
import zlib

import numpy as np
import pytest

from interpd_attribution.views import heatmap
from interpd_attribution.views.style import PAGE

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")]

EVIL = '<img src=x onerror="window.harmed=1"><script>window.harmed=1</script>'
ASK = """<pre id="answer"></pre><script>
addEventListener("load", () => {
  const style = element => getComputedStyle(element), all = name => [...document.querySelectorAll(name)];
  const box = document.querySelector(".scroll"), place = (element, side) =>
    element && Math.round(element.getBoundingClientRect()[side] - box.getBoundingClientRect()[side]);
  if (box) box.scrollTo(200, 200);
  document.getElementById("answer").textContent = JSON.stringify({
    harmed: window.harmed || 0,
    scrolled: box && [box.scrollLeft, box.scrollTop],
    row: place(all(".scroll tbody th")[5], "left"),
    column: place(all(".scroll thead th")[5], "top"),
    overflow: document.documentElement.scrollWidth > innerWidth,
    background: style(document.querySelector(".ia")).backgroundColor,
    text: style(document.querySelector(".ia h3")).color,
    cells: all(".scroll td").slice(0, 1).map(cell => [cell.textContent, style(cell).backgroundImage, cell.title]),
  });
});
</script>"""


def browse(folder, body, *flags):
    """What Chromium prints about a page with ``body``."""
    page = folder / "page.html"
    page.write_text(PAGE.format(title="test", body=body + ASK), encoding="utf-8")
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-background-networking")
    command = (BROWSER, *quiet, "--window-size=600,400", f"--user-data-dir={folder}", *flags, page.as_uri())
    return subprocess.run(command, capture_output=True, timeout=120, check=True).stdout.decode()


def asked(folder, body):
    """What the page says about itself."""
    answer = browse(folder, body, "--dump-dom").partition('<pre id="answer">')[2].partition("</pre>")[0]
    return json.loads(html.unescape(answer))


def drawn(folder, body):
    """The page's picture, ``[row column 3]``."""
    browse(folder, body, f"--screenshot={folder / 'page.png'}")
    return pixels((folder / "page.png").read_bytes())


def pixels(file):
    """The pixels of a PNG."""
    at, chunks = 8, {}
    while at < len(file):
        (length,) = struct.unpack(">I", file[at : at + 4])
        name = file[at + 4 : at + 8]
        chunks[name] = chunks.get(name, b"") + file[at + 8 : at + 8 + length]
        at += 12 + length
    width, height, _, kind = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    n = {2: 3, 6: 4}[kind]
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + n * width)
    rows, above = [], np.zeros((width, n), np.int64)
    for line in lines:
        above = unfiltered(line[0], line[1:].reshape(width, n).astype(np.int64), above)
        rows.append(above)
    return np.stack(rows)[..., :3]


def unfiltered(kind, line, above):
    """A row of a PNG: each pixel was written as its difference to those before and above it."""
    if kind == 0:
        return line
    if kind == 2:
        return (line + above) % 256
    if kind == 1:
        return line.cumsum(0) % 256
    found, left, corner = np.empty_like(line), np.zeros(line.shape[1], np.int64), np.zeros(line.shape[1], np.int64)
    for number, difference in enumerate(line):
        if kind == 3:
            guess = (left + above[number]) // 2
        else:
            near = left + above[number] - corner
            distances = np.abs(np.stack((near - left, near - above[number], near - corner)))
            guess = np.choose(distances.argmin(0), (left, above[number], corner))
        left, corner = (difference + guess) % 256, above[number]
        found[number] = left
    return found


def share(picture, is_meant):
    """How much of a picture has such a colour."""
    red, green, blue = (picture[..., channel] for channel in range(3))
    return float(is_meant(red, green, blue).mean())


@pytest.fixture
def large(make):
    """More tokens than fit, some of them hostile, with scores of both signs."""
    one = make(source=(EVIL, *(f"▁in{n}" for n in range(60))), target=tuple(f"▁out{n}" for n in range(40)))
    scores = np.where(np.indices(one.source_attributions.shape)[0] % 2, 0.9, -0.9).astype(np.float32)
    return dataclasses.replace(one, source_attributions=scores, target_attributions=None, step_scores={})


def test_a_table_in_a_browser(large, tmp_path):
    said = asked(tmp_path, large.html())
    assert said["harmed"] == 0
    assert said["scrolled"] == [200, 200]
    # heads stay at the frame, which is a pixel wide, while the table scrolls below them
    assert (said["row"], said["column"]) == (1, 1)
    assert not said["overflow"]
    assert said["background"] == "rgb(255, 255, 255)"
    ((text, colour, hover),) = said["cells"]
    assert (text, hover) == ("-0.900", f"{EVIL} → ▁out1: -0.9")
    assert "rgb(33, 102, 172)" in colour
    picture = drawn(tmp_path, large.html())
    assert share(picture, lambda r, g, b: (r > 150) & (g < 80) & (b < 90)) > 0.1
    assert share(picture, lambda r, g, b: (r < 80) & (b > 140)) > 0.1


def test_a_table_on_a_dark_page(large, tmp_path):
    said = asked(tmp_path, f'<body data-jp-theme-light="false">{large.html()}')
    assert (said["background"], said["text"]) == ("rgb(28, 28, 30)", "rgb(232, 232, 232)")


def test_panes_maps_and_tokens_in_a_browser(make, tmp_path):
    one = make(source=(EVIL, "b"), dims={"layer": 2, "head": 2})
    tokens = one.show_tokens(display=False, return_html=True, step_score_highlight="probability")
    layers = make(source=(EVIL, "b"), dims={"layer": 12}, info={"layers": [f"layers.{n}.{EVIL}" for n in range(12)]})
    panes = [shown.show_granular(display=False, return_html=True) for shown in (one, layers)]
    said = asked(tmp_path, tokens + "".join(panes))
    assert said["harmed"] == 0
    assert not said["overflow"]


def test_a_large_result_is_a_picture_in_a_browser(tmp_path, make, monkeypatch):
    monkeypatch.setattr(heatmap, "MOST_CELLS", 100)
    one = make(source=("x",) * 30, target=tuple(str(n) for n in range(31)))
    half = np.where(np.indices((30, 30))[0] < 15, 1.0, -1.0)
    picture = drawn(tmp_path, dataclasses.replace(one, source_attributions=half, target_attributions=None).html())
    assert share(picture, lambda r, g, b: (abs(r - 178) < 6) & (abs(g - 24) < 6) & (abs(b - 43) < 6)) > 0.2
