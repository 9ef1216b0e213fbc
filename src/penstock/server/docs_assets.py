"""The style and the script of the page at `/docs`; `docs_page.py` puts them in and their digests in the policy."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5a6676; --line: #d8dee6; --back: #fff; --pane: #f4f6f9;
  --mark: #0b62b0; --post: #17683a; --bad: #a4262c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9f0; --soft: #9aa7b8; --line: #333d4b; --back: #12171e;
  --pane: #1b222c; --mark: #6db3f2; --post: #62c98d; --bad: #f28b82; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 60rem; color: var(--ink); background: var(--back);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { margin: 0; font-size: 1.6rem; } h2 { margin: 2.5rem 0 .5rem; font-size: 1.2rem; }
h3 { margin: 1.25rem 0 .25rem; font-size: .95rem; }
p { margin: .25rem 0 .5rem; } a { color: var(--mark); }
.soft { color: var(--soft); } .told { white-space: pre-line; }
details { border: 1px solid var(--line); border-radius: .5rem; margin: .5rem 0; }
summary { padding: .6rem .8rem; cursor: pointer; } details > div { padding: 0 .8rem .8rem; }
code, pre, textarea, .method { font-family: ui-monospace, monospace; font-size: .85rem; }
.method { font-weight: 700; color: var(--mark); } .post { color: var(--post); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; overflow-wrap: normal; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); }
td:last-child { min-width: 10rem; }
pre, textarea { display: block; width: 100%; margin: .25rem 0; padding: .6rem; background: var(--pane); color: inherit;
  border: 1px solid var(--line); border-radius: .4rem; white-space: pre-wrap; }
textarea { min-height: 9rem; resize: vertical; }
button { padding: .4rem 1rem; border: 0; border-radius: .4rem; background: var(--mark); color: var(--back);
  font: inherit; cursor: pointer; }
button:disabled { opacity: .5; } pre.bad { border-color: var(--bad); }
:focus-visible { outline: 2px solid var(--mark); }
@media (max-width: 40rem) { th { display: none; } td, td:last-child { display: block; padding: 0; border: 0; }
  table, tbody, tr { display: block; } tr { padding: .3rem 0; border-bottom: 1px solid var(--line); } }
"""

# The answer is put in as text, never as HTML. A page on another origin cannot run this: the policy names this text.
SCRIPT: Final = """
"use strict";
for (const place of document.querySelectorAll(".origin")) place.textContent = location.origin;
for (const form of document.querySelectorAll(".try")) {
  const button = form.querySelector("button"), area = form.querySelector("textarea"), shown = form.querySelector("pre");
  button.addEventListener("click", async () => {
    button.disabled = true;
    shown.hidden = false;
    shown.textContent = "…";
    try {
      const asked = area ? { method: "POST", body: area.value, headers: { "Content-Type": "application/json" } } : {};
      const began = performance.now(), answer = await fetch(form.dataset.path, asked), text = await answer.text();
      const took = (performance.now() - began).toFixed(1);
      let body = text;
      try { body = JSON.stringify(JSON.parse(text), null, 2); } catch { /* not JSON: shown as it is */ }
      shown.textContent = `${answer.status} ${answer.statusText} in ${took} ms\\n\\n${body}`;
      shown.classList.toggle("bad", !answer.ok);
    } catch (error) {
      shown.textContent = `No answer: ${error.message}`;
      shown.classList.add("bad");
    }
    button.disabled = false;
  });
}
"""
