"""The page of a context attribution in a real browser. Skipped where there is no Chromium."""

import shutil
import subprocess

import pytest

from interpd_attribution.pecore import ContextAttribution, ContextualCues

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")]

ASK = """<pre id="answer"></pre><script>
addEventListener("load", () => {
  const look = name => [...document.querySelectorAll(name)].map(element => getComputedStyle(element));
  document.getElementById("answer").textContent = JSON.stringify([
    document.documentElement.scrollWidth > innerWidth,
    look(".ia")[0].backgroundColor,
    look(".cue mark").map(style => style.textDecorationLine).join(),
    look(".cue mark").every(style => style.textDecorationColor === look(".ia")[0].color),
  ]);
});
</script>"""


@pytest.mark.parametrize(("scheme", "background"), [("true", "255, 255, 255"), ("false", "28, 28, 30")])
def test_a_page_in_light_and_dark(tmp_path, scheme, background):
    tokens = tuple(f" word{number}" for number in range(200))
    cues = ContextualCues(0, "x", 1.0, "y x", input_context_scores=tuple(number / 100 - 1 for number in range(200)))
    found = ContextAttribution("words " * 200, tokens, None, None, "x", ("x",), (1.0,), (cues,))
    page = tmp_path / "page.html"
    whole = found.html(page=True, attribution_topk=1)
    page.write_text(
        whole.replace("<body>", f'<body data-jp-theme-light="{scheme}">').replace("</body>", ASK + "</body>")
    )
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom")
    command = (BROWSER, *quiet, "--window-size=600,400", f"--user-data-dir={tmp_path}", page.as_uri())
    said = subprocess.run(command, capture_output=True, timeout=120, check=True).stdout.decode()
    answer = said.partition('<pre id="answer">')[2].partition("</pre>")[0]
    assert answer == f'[false,"rgb({background})","underline,underline,underline",true]'
