"""Views in a real browser. Skipped where there is no Chromium."""

import shutil
import subprocess

import numpy as np
import pytest

from interpd_backpack.explaining.contributions import Contributions
from interpd_backpack.words import Word

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")]

EVIL = '<script>document.title="harmed"</script>'
ASK = """<pre id="answer"></pre><script>
addEventListener("load", () => {
  const cells = [...document.querySelectorAll(".bp td")].map(cell => getComputedStyle(cell).backgroundImage);
  const box = document.querySelector(".scroll");
  box.scrollTo(100, 100);
  document.getElementById("answer").textContent = [
    document.title, document.documentElement.scrollWidth > innerWidth, box.scrollLeft,
    cells[0].includes("rgb(178, 24, 43)"), cells[1].includes("rgb(33, 102, 172)"), cells[2],
  ].join("|");
});
</script>"""


def test_a_large_map_scrolls_in_its_frame_and_is_coloured(tmp_path):
    table = np.zeros((80, 40))
    table[0, :2] = 1.0, -1.0
    word, strings = Word("she", (1,), "refuse"), (EVIL,) * 80
    found = Contributions(
        "logit", word, None, 79, (0,) * 80, strings, {1: " she"}, table, table, table, 1.0, 0.0, 0.0, 0.0, -1.0, 0.7
    )
    page = tmp_path / "page.html"
    page.write_text(found.to_html(page=True).replace("</body>", f"{ASK}</body>"), encoding="utf-8")
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom")
    command = (BROWSER, *quiet, "--window-size=600,400", f"--user-data-dir={tmp_path}", page.as_uri())
    dom = subprocess.run(command, capture_output=True, timeout=120, check=True).stdout.decode()
    answer = dom.partition('<pre id="answer">')[2].partition("</pre>")[0].split("|")
    assert answer == ["logit of ␣she at position 79, by token and sense: 0", "false", "100", "true", "true", "none"]
