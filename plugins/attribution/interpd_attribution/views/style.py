"""The style of all HTML views. It follows the page's light or dark scheme, that of Jupyter and VS Code included."""

STYLE = """<style>
.ia{--fg:#1b1b1b;--bg:#fff;--dim:#6b6b6b;--line:#d9d9d9;--head:#f6f6f6;--none:#ececec;
font:13px/1.4 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;color:var(--fg);background:var(--bg);
padding:.6em .8em;margin:.4em 0;border:1px solid var(--line);border-radius:6px}
@media(prefers-color-scheme:dark){.ia{--fg:#e8e8e8;--bg:#1c1c1e;--dim:#a0a0a0;--line:#3d3d41;--head:#27272a;--none:#2a2a2d}}
body[data-jp-theme-light=true] .ia,body.vscode-light .ia{--fg:#1b1b1b;--bg:#fff;--dim:#6b6b6b;--line:#d9d9d9;
--head:#f6f6f6;--none:#ececec}
body[data-jp-theme-light=false] .ia,body.vscode-dark .ia{--fg:#e8e8e8;--bg:#1c1c1e;--dim:#a0a0a0;--line:#3d3d41;
--head:#27272a;--none:#2a2a2d}
.ia h3{font-size:1.05em;margin:0 0 .3em}.ia h4{font-size:1em;font-weight:600;margin:.8em 0 .3em}
.ia h4 small,.ia p.note{font-weight:400;color:var(--dim)}.ia p.note{margin:.3em 0}
.ia .scroll{overflow:auto;max-height:75vh;max-width:100%;width:fit-content;border:1px solid var(--line)}
.ia table{border-collapse:separate;border-spacing:0;font-variant-numeric:tabular-nums;margin:0}
.ia th,.ia td{padding:2px 6px;border:0;white-space:pre;color:var(--fg);background:var(--bg);text-align:center}
.ia td{font-size:.92em;min-width:2.6em}
.ia th{font:12px/1.4 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;background:var(--head)}
.ia th i{font-style:normal;color:var(--dim);font-size:.85em}
.ia thead th{position:sticky;top:0;z-index:2;vertical-align:bottom;border-bottom:1px solid var(--line)}
.ia tbody th,.ia thead th:first-child{position:sticky;left:0;z-index:1;text-align:right;
border-right:1px solid var(--line)}.ia thead th:first-child{z-index:3}
.ia th bdi{display:inline-block;max-width:20em;overflow:hidden;text-overflow:ellipsis;vertical-align:bottom}
.ia .up bdi{writing-mode:vertical-rl;transform:rotate(180deg);max-width:none;max-height:14em}.ia .up th{padding:4px 2px}
.ia td.p{background:linear-gradient(rgb(178 24 43/var(--a)),rgb(178 24 43/var(--a))) var(--bg)}
.ia td.n{background:linear-gradient(rgb(33 102 172/var(--a)),rgb(33 102 172/var(--a))) var(--bg)}
.ia td.g{background:linear-gradient(rgb(0 109 44/var(--a)),rgb(0 109 44/var(--a))) var(--bg)}
.ia td.o{background:linear-gradient(rgb(140 81 10/var(--a)),rgb(140 81 10/var(--a))) var(--bg)}
.ia td.s,.ia mark.s{color:#fff}.ia td.x{background:var(--none)}
.ia tbody tr:hover td{box-shadow:inset 0 1px var(--dim),inset 0 -1px var(--dim)}
.ia tr.cut>*{border-top:2px solid var(--dim)}
.ia .legend{display:flex;align-items:center;gap:.5em;font-size:.9em;color:var(--dim);margin:.4em 0}
.ia .bar{display:inline-block;width:9em;height:.8em;border:1px solid var(--line)}
.ia .signed{background:linear-gradient(90deg,rgb(33 102 172),rgb(33 102 172/0) 50%,rgb(178 24 43/0) 50%,rgb(178 24 43))}
.ia .plain{background:linear-gradient(90deg,rgb(178 24 43/0),rgb(178 24 43))}
.ia .greens{background:linear-gradient(90deg,rgb(0 109 44/0),rgb(0 109 44))}
.ia .browns{background:linear-gradient(90deg,rgb(140 81 10),rgb(140 81 10/0) 50%,rgb(0 109 44/0) 50%,rgb(0 109 44))}
.ia .panes{display:flex;flex-wrap:wrap;gap:.8em;align-items:start}.ia .row{display:flex;gap:.8em;margin-bottom:.8em}
.ia figure{margin:0}.ia figcaption{font-size:.9em;color:var(--dim);margin-bottom:2px}
.ia .panes td,.ia .row td{min-width:0;width:1.15em;height:1.15em;padding:0}
.ia .panes th,.ia .row th{font-size:10px;padding:0 4px;line-height:1.15}
.ia .panes .up th,.ia .row .up th{padding-top:4px}
.ia .panes bdi,.ia .row bdi{max-width:14em}.ia .panes .up bdi,.ia .row .up bdi{max-width:none;max-height:14em}
.ia .maps bdi{max-width:24em}.ia .maps th{font-size:12px;line-height:1.3}.ia .maps thead th{position:static;
text-align:center;font-size:11px}.ia .maps th[colspan]{border-left:1px solid var(--line)}
.ia .maps td{width:1.6em}.ia .maps figcaption{font-weight:600;color:var(--fg)}
.ia .wide{overflow-x:auto}.ia img.px{image-rendering:pixelated;border:1px solid var(--line)}
.ia .toks{line-height:1.9;margin:.2em 0 .6em 1.2em;white-space:pre-wrap;
font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:12.5px}
.ia mark{color:var(--fg);background:none;padding:2px 1px;margin-right:1px;border-radius:3px;box-decoration-break:clone}
.ia mark.p{background:rgb(178 24 43/var(--a))}.ia mark.n{background:rgb(33 102 172/var(--a))}
.ia mark.g{background:rgb(0 109 44/var(--a))}.ia mark.o{background:rgb(140 81 10/var(--a))}
.ia details{border-top:1px solid var(--line);padding:.15em 0}.ia summary{cursor:pointer;padding:.1em 0}
.ia summary mark{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:12.5px;font-weight:600}
.ia .side{color:var(--dim);margin-left:1.2em}
</style>"""

PAGE = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
    '<meta name="viewport" content="width=device-width"><title>{title}</title></head><body>\n{body}\n</body></html>\n'
)
