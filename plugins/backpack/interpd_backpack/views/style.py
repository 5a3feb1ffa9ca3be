"""The style of all HTML views. It follows the page's light or dark scheme, that of Jupyter and VS Code included."""

_LIGHT = "--fg:#1b1b1b;--bg:#fff;--dim:#6b6b6b;--line:#d9d9d9;--head:#f6f6f6;--none:#ececec"
_DARK = "--fg:#e8e8e8;--bg:#1c1c1e;--dim:#a0a0a0;--line:#3d3d41;--head:#27272a;--none:#2a2a2d"

STYLE = (
    f"<style>.bp{{{_LIGHT};"
    'font:13px/1.4 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;color:var(--fg);background:var(--bg);'
    "padding:.6em .8em;margin:.4em 0;border:1px solid var(--line);border-radius:6px}\n"
    f"@media(prefers-color-scheme:dark){{.bp{{{_DARK}}}}}\n"
    f"body[data-jp-theme-light=true] .bp,body.vscode-light .bp{{{_LIGHT}}}\n"
    f"body[data-jp-theme-light=false] .bp,body.vscode-dark .bp{{{_DARK}}}\n"
    """.bp h3{font-size:1.05em;margin:0 0 .3em}.bp h4{font-size:1em;font-weight:600;margin:.8em 0 .3em}
.bp h4 small,.bp p.note{font-weight:400;color:var(--dim)}.bp p.note{margin:.3em 0;max-width:60em}
.bp .scroll{overflow:auto;max-height:75vh;max-width:100%;width:fit-content;border:1px solid var(--line);margin:.4em 0}
.bp table{border-collapse:separate;border-spacing:0;font-variant-numeric:tabular-nums;margin:0}
.bp th,.bp td{padding:2px 6px;border:0;white-space:pre;color:var(--fg);background:var(--bg);text-align:center;
font-size:12px}
.bp th{font-weight:600;background:var(--head)}.bp th i{font-style:normal;font-weight:400;color:var(--dim)}
.bp thead th{position:sticky;top:0;z-index:2;vertical-align:bottom;border-bottom:1px solid var(--line)}
.bp tbody th,.bp thead th:first-child{position:sticky;left:0;z-index:1;text-align:right;
border-right:1px solid var(--line)}.bp thead th:first-child{z-index:3}
.bp thead th.w{text-align:left}
.bp td.w{text-align:left;white-space:normal;max-width:40em;line-height:1.75}
.bp td.t,.bp th.t{border-left:2px solid var(--line);font-weight:600}.bp tr.t>*{border-top:2px solid var(--line)}
.bp td.p,.bp mark.p{background:linear-gradient(rgb(178 24 43/var(--a)),rgb(178 24 43/var(--a))) var(--bg)}
.bp td.n,.bp mark.n{background:linear-gradient(rgb(33 102 172/var(--a)),rgb(33 102 172/var(--a))) var(--bg)}
.bp td.s,.bp mark.s{color:#fff}.bp td.x{background:var(--none)}.bp td.z{color:var(--dim)}
.bp tbody tr:hover td{box-shadow:inset 0 1px var(--dim),inset 0 -1px var(--dim)}
.bp mark{color:var(--fg);padding:1px 3px;border-radius:3px;white-space:pre;display:inline-block;line-height:1.3;
background:none}
.bp code,.bp mark,.bp bdi{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:12px}
.bp code{white-space:pre}.bp .b{color:var(--dim);font-weight:400;opacity:.75}.bp mark.s .b{color:inherit}
.bp .legend{display:flex;align-items:center;gap:.5em;font-size:.9em;color:var(--dim);margin:.4em 0}
.bp .bar{display:inline-block;width:9em;height:.8em;border:1px solid var(--line)}
.bp .signed{background:linear-gradient(90deg,rgb(33 102 172),rgb(33 102 172/0) 50%,rgb(178 24 43/0) 50%,rgb(178 24 43))}
.bp .plain{background:linear-gradient(90deg,rgb(178 24 43/0),rgb(178 24 43))}</style>"""
)

PAGE = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
    '<meta name="viewport" content="width=device-width"><title>{title}</title></head><body>\n{body}\n</body></html>\n'
)
