"""How the page looks: one style sheet, on a desktop, on a phone and on paper."""

from __future__ import annotations

from cnf.plotting.style import BLUE, VERMILION

TINT = "#a9d0e8"  # of BLUE, for areas
STYLE = f"""
:root {{ --ink: #1b2733; --soft: #56646f; --rule: #dfe5ea; --blue: {BLUE}; --tint: {TINT}; --red: {VERMILION}; }}
* {{ box-sizing: border-box; }}
html {{ color-scheme: light; -webkit-text-size-adjust: 100%; }}
body {{ margin: 0; background: #fff; color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Helvetica Neue", Arial, sans-serif; }}
main {{ max-width: 1080px; margin: 0 auto; padding: 40px 24px 64px; }}
h1 {{ font-size: 1.9rem; line-height: 1.2; margin: 0 0 6px; letter-spacing: -.01em; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.3rem; line-height: 1.3; margin: 0 0 8px; }}
section {{ margin-top: 52px; }}
p {{ margin: 0 0 12px; max-width: 70ch; }}
.lead, .note, figcaption small {{ color: var(--soft); }}
.note {{ font-size: .9rem; font-weight: 400; }}
.failed {{ border-left: 3px solid var(--red); padding: 2px 0 2px 12px; overflow-wrap: anywhere; }}
nav {{ display: flex; flex-wrap: wrap; gap: 4px 18px; margin-top: 18px; font-size: .9rem; }}
a {{ color: var(--blue); text-underline-offset: 2px; text-decoration-thickness: 1px; }}
dl.tiles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 1px; margin: 26px 0 0;
  background: var(--rule); border: 1px solid var(--rule); }}
dl.tiles > div {{ background: #fff; padding: 12px 16px; }}
dl.tiles dt {{ font-size: .8rem; color: var(--soft); }}
dl.tiles dd {{ margin: 0; font-size: 1.08rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }}
dl.tiles dd small {{ display: block; font-size: .8rem; color: var(--soft); }}
table {{ border-collapse: collapse; width: 100%; font-size: .92rem; margin: 14px 0;
  font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; vertical-align: baseline; padding: 7px 16px 7px 0; border-bottom: 1px solid var(--rule);
  overflow-wrap: anywhere; }}
th:last-child, td:last-child {{ padding-right: 0; }}
thead th {{ font-size: .8rem; font-weight: 500; color: var(--soft); border-bottom-color: var(--soft);
  white-space: nowrap; }}
tbody th {{ font-weight: 600; }}
tr.own th, tr.own td {{ background: #f1f7fb; }}
.n {{ text-align: right; white-space: nowrap; }}
td.wide {{ width: 34%; }}
figure {{ margin: 0; min-width: 0; }}
figcaption {{ font-size: .85rem; line-height: 1.35; font-weight: 600; overflow-wrap: anywhere; }}
figcaption small {{ display: block; font-size: .78rem; font-weight: 400; }}
.grid {{ display: grid; gap: 22px 20px; margin-top: 16px;
  grid-template-columns: repeat(auto-fill, minmax(158px, 1fr)); }}
.grid.large {{ grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); }}
.grid.half {{ grid-template-columns: repeat(auto-fit, minmax(min(400px, 100%), 1fr)); }}
svg {{ display: block; width: 100%; height: auto; overflow: visible; }}
svg text {{ font-size: 10px; fill: var(--soft); }}
svg .axis {{ stroke: #9aa6b0; stroke-width: 1; fill: none; vector-effect: non-scaling-stroke; }}
svg .area {{ fill: var(--tint); }}
svg .band {{ fill: #e9edf0; }}
svg .line {{ fill: none; stroke: var(--red); stroke-width: 1.5; stroke-linejoin: round;
  vector-effect: non-scaling-stroke; }}
svg .line.blue {{ stroke: var(--blue); }}
svg .line.thin {{ stroke-width: 1; stroke: var(--soft); }}
svg .dots {{ fill: none; stroke-linecap: round; stroke-width: 4.4; stroke: var(--tint); }}
svg .dots.red {{ stroke-width: 1.9; stroke: var(--red); stroke-opacity: .8; }}
.key {{ display: flex; flex-wrap: wrap; gap: 4px 20px; font-size: .85rem; color: var(--soft); margin: 10px 0 0; }}
.key i {{ display: inline-block; width: 18px; height: 11px; margin-right: 7px; vertical-align: -1px; }}
.key .area {{ background: var(--tint); }}
.key .line {{ height: 0; border-top: 2px solid var(--red); vertical-align: 4px; }}
.key .line.blue {{ border-color: var(--blue); }}
.key .band {{ background: #e9edf0; }}
.key .dot {{ width: 9px; height: 9px; border-radius: 50%; background: var(--tint); vertical-align: 0; }}
.key .dot.red {{ width: 5px; height: 5px; background: var(--red); vertical-align: 2px; }}
img {{ display: block; max-width: 100%; height: auto; margin-top: 10px; }}
img.pixels {{ image-rendering: pixelated; width: 100%; max-width: 500px; }}
pre {{ background: #f5f7f9; border: 1px solid var(--rule); padding: 14px 16px; overflow-x: auto; font-size: .86rem;
  line-height: 1.5; white-space: pre-wrap; overflow-wrap: anywhere; }}
code {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }}
details {{ margin-top: 14px; border: solid var(--rule); border-width: 1px 0; padding: 10px 0; }}
details + details {{ margin-top: -1px; }}
summary {{ cursor: pointer; font-weight: 600; }}
label {{ font-size: .9rem; color: var(--soft); margin-right: 16px; display: inline-block; }}
select {{ font: inherit; color: var(--ink); margin-left: 6px; padding: 3px 6px; max-width: 240px; }}
@media (max-width: 640px) {{
  main {{ padding: 24px 16px 48px; }}
  h1 {{ font-size: 1.5rem; }}
  section {{ margin-top: 40px; }}
  .grid {{ grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 20px 16px; }}
  .grid.large, .grid.half {{ grid-template-columns: minmax(0, 1fr); }}
  dl.tiles {{ grid-template-columns: 1fr 1fr; }}
  dl.tiles > div {{ padding: 10px 12px; }}
  table.cards thead {{ position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden; }}
  table.cards tr {{ display: block; padding: 9px 0; border-bottom: 1px solid var(--rule); }}
  table.cards th, table.cards td {{ display: block; border: 0; padding: 1px 0; text-align: left; white-space: normal; }}
  table.cards td {{ display: grid; grid-template-columns: 8.5em minmax(0, 1fr); }}
  table.cards td::before {{ content: attr(data-label); color: var(--soft); font-size: .82rem; }}
  table.cards td:empty {{ display: none; }}
  table.cards tr.own {{ background: #f1f7fb; }}
}}
@media print {{
  main {{ max-width: none; padding: 0; }}
  body {{ font-size: 11pt; }}
  nav, .choice {{ display: none; }}
  section {{ margin-top: 24pt; }}
  h2, figure, tr {{ break-inside: avoid; }}
  h2 {{ break-after: avoid; }}
  * {{ print-color-adjust: exact; -webkit-print-color-adjust: exact; }}
  details::details-content {{ content-visibility: visible; display: block; height: auto; }}
}}
"""
