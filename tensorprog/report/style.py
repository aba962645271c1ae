"""The look of the report: sober, system fonts, light and dark."""

STYLE = """
:root { color-scheme: light dark; --fg: #1b1f24; --soft: #59636e; --bg: #ffffff; --box: #f6f8fa; --line: #d8dee4;
  --ok: #1a7f37; --okbg: #dafbe1; --bad: #b42318; --badbg: #ffebe9; --na: #7d5b00; --nabg: #fff8c5; --link: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --fg: #e6e8eb; --soft: #9aa4af; --bg: #15181c; --box: #1e2329;
  --line: #343b43; --ok: #5fd37a; --okbg: #12351c; --bad: #ff8f85; --badbg: #4a1714; --na: #e3c14d; --nabg: #3a3008;
  --link: #7db7f5; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--bg); color: var(--fg);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 2.5rem 1.25rem 5rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.35rem; margin: 3.2rem 0 1rem; padding-top: 1.2rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 1.9rem 0 .7rem; }
p { margin: .5rem 0; max-width: 46rem; }
.setting { overflow-wrap: anywhere; color: var(--soft); font-size: .95rem; max-width: none; margin: 0 0 1rem; }
.kind { color: var(--soft); margin: 0 0 .2rem; }
.note, .origin p, .claims p { color: var(--soft); font-size: .9rem; }
.verdict { display: inline-block; font-weight: 650; font-size: 1.1rem; padding: .35rem .8rem; border-radius: .45rem; }
.verdict.ok { color: var(--ok); background: var(--okbg); }
.verdict.failed { color: var(--bad); background: var(--badbg); }
.claims { list-style: none; margin: 1.2rem 0; padding: 0; border: 1px solid var(--line); border-radius: .6rem; }
.claims li { display: flex; gap: .9rem; padding: .7rem .9rem; align-items: baseline; }
.claims li + li { border-top: 1px solid var(--line); }
.claims p { margin: .1rem 0 0; max-width: none; overflow-wrap: anywhere; }
.claims div { min-width: 0; }
.badge { flex: 0 0 4.3rem; text-align: center; font-size: .8rem; font-weight: 650; border-radius: .35rem;
  padding: .12rem 0; color: var(--na); background: var(--nabg); }
.ok .badge { color: var(--ok); background: var(--okbg); }
.failed .badge { color: var(--bad); background: var(--badbg); }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: 1.2rem 0 0; font-size: .95rem; }
a { color: var(--link); text-decoration-thickness: 1px; text-underline-offset: 2px; }
pre, .scroll, .eq { overflow-x: auto; overflow-y: hidden; }
pre { background: var(--box); border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1rem; margin: .8rem 0;
  font-size: .86rem; line-height: 1.45; overflow-y: auto; max-height: 34rem; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
table { border-collapse: collapse; font-size: .93rem; font-variant-numeric: tabular-nums; margin: .4rem 0; }
th, td { padding: .38rem .9rem .38rem 0; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--line); }
thead th { font-weight: 600; color: var(--soft); }
tbody th { font-weight: 500; }
figure { margin: 1rem 0; }
svg { color: var(--fg); display: block; height: auto; }
svg [fill="#ffffff"] { fill: var(--bg); }
.drawing svg { max-width: none; }
.charts svg { max-width: 100%; }
.charts { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; }
.charts figure { margin: .4rem 0; max-width: 100%; }
.eq { padding: .28rem 0 .28rem 2.4em; text-indent: -2.4em; line-height: 2; }
math { font-size: 1.06em; text-indent: 0; font-family: "STIX Two Math", "Cambria Math", "Latin Modern Math", math; }
.equations { border-left: 3px solid var(--line); padding-left: .9rem; }
.legend { background: var(--box); border-radius: .5rem; padding: .5rem .9rem; font-size: .93rem; margin: .8rem 0; }
.legend ul { margin: .3rem 0; padding-left: 1.2rem; }
.legend li { overflow-x: auto; overflow-y: hidden; padding: .12rem 0; }
.z { border-top: 1px solid var(--line); padding: .55rem 0; }
.z .head { display: flex; flex-wrap: wrap; gap: .1rem .9rem; align-items: baseline; }
.z .head span { color: var(--soft); font-size: .9rem; overflow-wrap: anywhere; }
.origin { margin: .1rem 0 .1rem .9rem; border-left: 3px solid var(--line); padding-left: .9rem; }
.origin p { margin: 0; }
summary { cursor: pointer; margin: 1rem 0 .4rem; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
@media (max-width: 34rem) { main { padding: 1.4rem 1rem 3rem; } h1 { font-size: 1.6rem; }
  .claims li { flex-direction: column; gap: .3rem; } .badge { flex: none; padding: .12rem .6rem; } }
"""

# A result in a notebook: one box that takes its colours from the page around it; two classes outweigh the
# notebook's own rules for tables and lists.
SHOWN = """
div.tensorprog.tp { font: 14px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  max-width: 64rem; --line: rgba(127, 127, 127, .35); }
div.tensorprog.tp > header { font-weight: 600; overflow-wrap: anywhere; margin: .2rem 0 .4rem; }
div.tensorprog.tp p { margin: .3rem 0; }
div.tensorprog.tp .soft, div.tensorprog.tp li span { opacity: .75; font-size: .93em; }
div.tensorprog.tp .scroll { overflow-x: auto; margin: .4rem 0; }
div.tensorprog.tp table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 0; }
div.tensorprog.tp th, div.tensorprog.tp td { padding: .2rem 1.1rem .2rem 0; text-align: left;
  border-bottom: 1px solid var(--line); vertical-align: baseline; background: none; }
div.tensorprog.tp tbody tr { background: none; }
div.tensorprog.tp thead th { font-weight: 600; opacity: .75; }
div.tensorprog.tp tbody th { font-weight: 500; white-space: nowrap; }
div.tensorprog.tp ul { list-style: none; margin: .4rem 0; padding: 0; }
div.tensorprog.tp li { display: flex; gap: .7rem; align-items: baseline; padding: .15rem 0; margin: 0; }
div.tensorprog.tp li b { flex: 0 0 4.2rem; text-align: center; font-size: .82em; border-radius: .3rem; }
div.tensorprog.tp .ok b, div.tensorprog.tp b.ok { color: #1a7f37; background: #dafbe1; }
div.tensorprog.tp .failed b, div.tensorprog.tp b.failed { color: #b42318; background: #ffebe9; }
div.tensorprog.tp .na b, div.tensorprog.tp b.na { color: #7d5b00; background: #fff8c5; }
div.tensorprog.tp header b { font-size: .9em; padding: .1rem .5rem; border-radius: .3rem; margin-left: .4rem; }
div.tensorprog.tp figure { margin: .5rem 0; }
div.tensorprog.tp .row { display: flex; flex-wrap: wrap; gap: 0 1rem; }
div.tensorprog.tp svg { max-width: 100%; height: auto; background: #fff; }
div.tensorprog.tp math[display=block] { display: block math; width: max-content; margin: 0; }
div.tensorprog.tp summary { cursor: pointer; opacity: .75; }
div.tensorprog.tp code, div.tensorprog.tp pre { font: .93em ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
"""
