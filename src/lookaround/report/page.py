"""What every page has: one self-contained HTML file, its style, and text made safe for it."""

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["esc", "items", "page", "repeat", "scroll"]


def page(title: str, sections: Sequence[str]) -> str:
    """A whole self-contained page of sections that are HTML already; the title is text."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" '
        'content="no-referrer">\n'
        f"<title>{esc(title)}</title>\n<style>\n{_CSS.strip()}\n</style>\n</head>\n<body>\n"
        + "\n".join(section for section in sections if section)
        + "\n</body>\n</html>\n"
    )


def esc(value: object) -> str:
    """Text made safe for element content and for quoted attributes."""
    return escape("".join(c if c in "\n\t" or _allowed(c) else "\ufffd" for c in str(value)))


def _allowed(character: str) -> bool:
    code = ord(
        character
    )  # controls, surrogates and text-direction overrides have no place in a report
    return not (
        code < 32 or 127 <= code < 160 or 0xD800 <= code < 0xE000 or 0x202A <= code < 0x202F
    )


def items(texts: Iterable[object]) -> str:
    return "".join(f"<li>{esc(text)}</li>" for text in texts)


def repeat(command: object) -> str:
    return f'<pre class="command" tabindex="0"><code>{esc(command)}</code></pre>'


def scroll(label: str, table: str) -> str:
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{esc(label)}">{table}</div>'


_CSS = """
:root { color-scheme: light dark;
  --bg: #f5f6f8; --card: #fffffe; --ink: #1b1f24; --soft: #59636e; --line: #dde2e8; --fill: #eef1f4; --accent: #0b57a4;
  --good: #136c3e; --bad: #b3261e; --warn: #865200; --warn-bg: #fff7e3; --warn-line: #e3bb63;
  --s0: #0065b0; --s1: #cf4b00; --s2: #00835f; --s3: #b5418e; --s4: #8f6c00; --s5: #2389bd; --s6: #7a3b2e; --s7: #4b5563; }
@media (prefers-color-scheme: dark) { :root {
  --bg: #0e1216; --card: #161b21; --ink: #e7ebef; --soft: #a2adb9; --line: #2c343d; --fill: #1f262e; --accent: #7fb8f5;
  --good: #6fd39b; --bad: #ff9489; --warn: #f0c063; --warn-bg: #2a2314; --warn-line: #7a5f22;
  --s0: #5caeff; --s1: #ff8b4d; --s2: #38cf9f; --s3: #f08acb; --s4: #ddb83a; --s5: #8fd6f7; --s6: #dd9a8a; --s7: #bcc5cf; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--bg); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; }
header, main, footer { max-width: 1240px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 36px; }
h1 { font-size: clamp(25px, 3.4vw, 36px); line-height: 1.15; margin: 2px 0 10px; letter-spacing: -.015em;
  overflow-wrap: anywhere; text-wrap: balance; }
h2 { font-size: 21px; line-height: 1.25; margin: 0 0 12px; letter-spacing: -.01em; }
h3 { font-size: 15px; margin: 22px 0 8px; }
section { margin: 40px 0 0; }
p { margin: 0 0 10px; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; font-size: .93em; }
code { overflow-wrap: anywhere; }
.brand { margin: 0; color: var(--accent); font-weight: 650; font-size: 13px; }
.facts { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 18px; margin: 0; padding: 0; color: var(--soft); }
.lead, figcaption { color: var(--soft); max-width: 92ch; }
.soft, .none { color: var(--soft); font-weight: 400; }
header + main > section:first-child { margin-top: 28px; }

.cards { display: grid; grid-template-columns: repeat(3, 1fr); gap: 16px; }
.card { background: var(--card); border: 1px solid var(--line); border-top: 4px solid var(--good); border-radius: 10px;
  padding: 14px 18px 12px; }
.card h3 { margin: 0; font-size: 17px; }
.card h3::first-letter { text-transform: uppercase; }
.card .question { color: var(--soft); margin: 0 0 12px; }
.card .choice { font-size: 20px; line-height: 1.25; font-weight: 650; margin: 0 0 8px; }
.card .choice code { font-size: .95em; }
.card .choice .key { width: 34px; height: 16px; margin: 0 6px 0 0; }
.card.open { border-style: dashed; border-top-style: solid; border-color: var(--warn-line); }
.card.open .choice { color: var(--warn); }
.card.open .candidates { font-weight: 600; }
.card.absent { border-top-color: var(--line); }
.card.absent .choice { color: var(--soft); }
.card .reason { color: var(--soft); margin: 0; font-size: 14px; }
.score { list-style: none; margin: 0 0 8px; padding: 0; font-variant-numeric: tabular-nums; }
.score b { font-size: 16px; }
.score .span { display: inline; font-size: 13px; }
.notes { margin: 16px 0 0; padding: 10px 16px 10px 34px; background: var(--warn-bg); border: 1px solid var(--warn-line);
  border-radius: 10px; }

.notes + .scroll { margin-top: 16px; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 10px; margin: 0 0 12px; }
.scroll:focus-visible, .command:focus-visible, summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: 13.5px; line-height: 1.35;
  font-variant-numeric: tabular-nums; }
th, td { padding: 8px 8px; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line); }
tbody:last-child > tr:last-child > * { border-bottom: 0; }
thead th { vertical-align: bottom; font-size: 12.5px; font-weight: 650; background: var(--fill); overflow-wrap: break-word; }
thead th small { display: block; font-weight: 400; color: var(--soft); }
th:first-child { text-align: left; position: sticky; left: 0; z-index: 1; background: var(--card); min-width: 190px;
  max-width: 260px; padding-left: 14px; font-weight: 500; }
thead th:first-child { background: var(--fill); font-weight: 650; }
th.text, td.text { text-align: left; }
.span { display: block; color: var(--soft); font-size: 11.5px; white-space: nowrap; }
.cost { white-space: nowrap; }
.mode { display: block; font-size: 11.5px; font-weight: 400; color: var(--soft); }
.baselines th, .baselines td { background: var(--fill); border-bottom-color: var(--card); padding-top: 5px; padding-bottom: 5px; }
.bar { display: block; position: relative; height: 6px; margin: 4px 0 2px; min-width: 64px; background: var(--fill);
  border-radius: 3px; }
.bar b { position: absolute; top: 0; height: 6px; background: var(--soft); opacity: .45; border-radius: 3px; min-width: 2px; }
.bar i { position: absolute; top: -1px; height: 8px; width: 3px; margin-left: -1.5px; background: var(--ink); border-radius: 1px; }
.flag, .better, .worse, .unclear { display: block; font-size: 11.5px; font-weight: 600; white-space: nowrap; color: var(--warn); }
.flag.serious, .worse { color: var(--bad); }
.better { color: var(--good); }
.unclear { color: var(--soft); font-weight: 400; }
.minus { color: var(--soft); font-size: 12px; }
.badge { display: inline-block; margin: 2px 0 0 7px; padding: 0 7px; border: 1px solid var(--good); border-radius: 9px;
  color: var(--good); font-size: 11px; line-height: 16px; }
.key { vertical-align: -1px; margin-right: 6px; flex: none; }

.figures { display: grid; grid-template-columns: 1fr 1fr; gap: 16px; }
.figures > .lead { grid-column: 1 / -1; margin: 0; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 18px 16px; min-width: 0; }
figure h3 { margin: 0 0 10px; font-size: 16px; }
figure.pair, figure.aside { grid-column: 1 / -1; }
figure.pair .charts { display: grid; grid-template-columns: 1fr 1fr; gap: 20px; }
figure.aside { display: grid; grid-template-columns: minmax(0, 540px) minmax(0, 1fr); column-gap: 44px; }
figure.aside h3 { grid-column: 1 / -1; }
figure.aside .legend { display: block; }
figure.aside .reading { padding-top: 22px; }
.chart svg { display: block; height: auto; max-width: 540px; overflow: visible; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 3px 16px; margin: 10px 0; padding: 0; font-size: 13px; }
.legend li { display: flex; align-items: baseline; min-width: 0; }
.legend li .key { align-self: center; }
figcaption { font-size: 13.5px; }

details { margin: 0 0 8px; }
summary { cursor: pointer; padding: 7px 2px; font-weight: 550; }
details > .scroll { margin-top: 6px; }
blockquote { margin: 6px 0 8px; padding: 10px 14px; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  white-space: pre-wrap; overflow-wrap: anywhere; font-family: ui-serif, Georgia, serif; }
.prompt { color: var(--soft); }
.terms { display: grid; grid-template-columns: 1fr 1fr; gap: 14px 36px; margin: 0; }
dt { font-weight: 600; }
dd { margin: 0; }
.limits { margin: 0; padding-left: 20px; }
.boxes { display: grid; grid-template-columns: repeat(3, 1fr); gap: 16px; align-items: start; margin: 16px 0; }
.boxes > div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px; min-width: 0; }
.boxes h3 { margin: 0 0 6px; }
.pairs { margin: 0; font-size: 13.5px; }
.pairs > div { display: flex; justify-content: space-between; gap: 16px; padding: 3px 0; border-top: 1px solid var(--line); }
.pairs > div:first-child { border-top: 0; }
.pairs dt { color: var(--soft); font-weight: 400; flex: none; max-width: 50%; overflow-wrap: anywhere; }
.pairs dd { text-align: right; overflow-wrap: anywhere; min-width: 0; }
.command { margin: 0; padding: 12px 16px; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  white-space: pre-wrap; overflow-wrap: anywhere; user-select: all; -webkit-user-select: all; }
footer { padding-top: 28px; padding-bottom: 40px; color: var(--soft); font-size: 13.5px; }

@media (max-width: 820px) {
  header, main, footer { padding-left: 14px; padding-right: 14px; }
  header { padding-top: 22px; }
  section { margin-top: 32px; }
  .cards, .figures, figure.pair .charts, figure.aside, .terms, .boxes { grid-template-columns: minmax(0, 1fr); }
  figure { padding: 12px 8px 14px; }
  figure h3, .reading { padding-left: 5px; padding-right: 5px; }
  .badge { display: block; width: fit-content; margin-left: 0; }
  figure.aside .legend { display: flex; }
  figure.aside .reading { padding-top: 0; }
  th:first-child { min-width: 134px; max-width: 134px; padding-left: 10px; box-shadow: 1px 0 0 var(--line); }
  th:first-child .key { display: block; }
}
@media print {
  :root { --bg: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #ccc; --fill: #f2f2f2; }
  body { font-size: 10pt; }
  header, main, footer { max-width: none; padding: 0; }
  .scroll { overflow: visible; border: 0; }
  table { font-size: 7pt; }
  th:first-child { position: static; min-width: 0; }
  figure, .card, tr, blockquote { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
}
"""
