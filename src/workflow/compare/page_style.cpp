#include "workflow/compare/page.h"

namespace halftone::workflow {

namespace {
constexpr std::string_view kStyle = R"css(
:root { color-scheme: light dark; --ink: #1c2126; --soft: #5b6670; --line: #d8dee4; --paper: #ffffff;
  --card: #f5f7f9; --accent: #2a6fdb; --warn: #c2410c; --good: #15803d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #9aa5b1; --line: #343c45;
  --paper: #14181c; --card: #1d2329; --accent: #6ea8fe; --warn: #fb923c; --good: #4ade80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 20px 64px; max-width: 1120px; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 40px 0 12px; padding-top: 12px; border-top: 1px solid var(--line); }
h3 { font-size: 15px; margin: 20px 0 6px; }
p { margin: 6px 0 12px; max-width: 76ch; } .soft { color: var(--soft); } small { color: var(--soft); }
code { font-family: ui-monospace, monospace; font-size: 13px; overflow-wrap: anywhere; }
a { color: var(--accent); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px;
  margin: 18px 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 12px 14px; }
.tile b { display: block; font-size: 24px; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 13px; }
.verdict { display: inline-block; border-radius: 999px; padding: 2px 12px; font-weight: 600;
  border: 1px solid currentColor; margin: 4px 8px 4px 0; }
.passed { color: var(--good); } .missed { color: var(--warn); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr));
  gap: 16px 24px; }
figure { margin: 0; } figcaption { font-size: 13px; color: var(--soft); }
.chart { width: 100%; max-width: 860px; height: auto; display: block; }
.grid { stroke: var(--line); stroke-width: 1; }
.tick { fill: var(--soft); font-size: 17px; font-family: inherit; }
.bar { fill: var(--accent); } .bar.bad { fill: var(--warn); } .bar:hover { opacity: .7; }
.mean { stroke: var(--ink); stroke-width: 1.2; stroke-dasharray: 5 4; }
.gate { stroke: var(--warn); stroke-width: 1.5; stroke-dasharray: 2 3; }
.line { fill: none; stroke: var(--accent); stroke-width: 2.4; stroke-linejoin: round; }
.line.second { stroke: var(--warn); stroke-width: 1.6; stroke-dasharray: 6 4; }
.scroll { overflow-x: auto; margin: 8px 0 18px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { text-align: right; padding: 5px 12px; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } td.text, th.text { text-align: left; }
td.wrap { white-space: normal; min-width: 180px; } tr.total td { font-weight: 600; }
td .meter { display: inline-block; height: 9px; border-radius: 2px; background: var(--accent);
  vertical-align: middle; } td .meter.bad { background: var(--warn); }
.shots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr));
  gap: 18px; }
.shots.large { grid-template-columns: repeat(auto-fill, minmax(min(100%, 500px), 1fr)); }
.shot { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 10px 12px 12px; }
.shot h3 { margin: 0 0 2px; font-weight: 600; overflow-wrap: anywhere; }
.shot .figures { color: var(--soft); font-size: 13px; font-variant-numeric: tabular-nums; }
.three { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 6px;
  margin-top: 8px; }
.three img { width: 100%; height: auto; display: block; border-radius: 4px; background: #000; }
.three span { display: block; font-size: 12px; color: var(--soft); text-align: center;
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
details summary { cursor: pointer; color: var(--accent); margin: 8px 0; }
@media (max-width: 520px) { body { padding: 16px 12px 48px; } h1 { font-size: 21px; }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 8px; } .tile b { font-size: 19px; }
  th, td { padding: 5px 8px; } }
@media print { .shot { break-inside: avoid; } }
)css";
}

std::string_view page_style() { return kStyle; }

}  // namespace halftone::workflow
