"""What a real browser makes of a page: sizes, texts that are cut or overlap, empty plots."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "chromium"
)
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--virtual-time-budget=15000",
)  # fmt: skip

# Before everything else: what goes wrong while the page is read is counted.
_LISTEN = """<script>
window.problems = [];
addEventListener("error", (event) => problems.push("error: " + event.message));
addEventListener("securitypolicyviolation",
  (event) => problems.push("asked for " + event.blockedURI));
</script>"""

# A browser's window cannot be narrower than 500 pixels, a frame can: the page reports to it.
_PROBE = """<script>
addEventListener("load", () => setTimeout(() => {
  const seen = (element) => element.getBoundingClientRect();
  const overlap = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1.5
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1.5;
  const report = { width: innerWidth, content: document.documentElement.scrollWidth,
    problems, loaded: performance.getEntriesByType("resource").map((entry) => entry.name),
    hacked: window.hacked === 1, plots: [], wide: [], links: [] };
  for (const plot of document.querySelectorAll(".plot")) {
    const frame = seen(plot);
    const texts = [...plot.querySelectorAll("text")]
      .filter((text) => text.textContent.trim() && seen(text).width > 0);
    const name = (text) => text.textContent.trim();
    const cut = texts.filter((text) => { const box = seen(text);
      return box.left < frame.left - 1 || box.right > frame.right + 1
        || box.top < frame.top - 1 || box.bottom > frame.bottom + 1; }).map(name);
    const clash = [];
    texts.forEach((a, i) => texts.slice(i + 1).forEach((b) => {
      if (overlap(seen(a), seen(b))) clash.push(name(a) + " | " + name(b)); }));
    const marks = plot.querySelectorAll(
      ".scatterlayer path, .barlayer path, .heatmaplayer image").length;
    report.links.push(...[...plot.querySelectorAll("a")].map((link) => link.outerHTML));
    report.plots.push({ label: plot.getAttribute("aria-label"), marks, cut, clash,
      drawn: plot.classList.contains("js-plotly-plot"), size: [frame.width, frame.height] });
  }
  for (const element of document.querySelectorAll("main *")) {
    if (element.closest(".scroll, svg, .plot")) continue;
    if (seen(element).right > innerWidth + 1) report.wide.push(element.outerHTML.slice(0, 80));
  }
  parent.postMessage(JSON.stringify(report), "*");
}, 300));
</script>"""


def look(page: str, width: int) -> dict[str, Any]:
    """Open a page `width` pixels wide; what the probe above reports."""
    page = page.replace("<head>", f"<head>{_LISTEN}", 1).replace("</body>", f"{_PROBE}</body>", 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "page.html").write_text(page)
        (folder / "frame.html").write_text(
            f'<!doctype html><iframe src="page.html" width="{width}" height="900"></iframe><script>'
            "onmessage = (event) => { document.body.dataset.report = event.data; };"
            "</script>"
        )
        done = subprocess.run(
            [
                CHROMIUM, *_FLAGS, f"--user-data-dir={folder / 'profile'}",
                "--window-size=1400,1000", "--dump-dom", (folder / "frame.html").as_uri(),
            ],
            capture_output=True, timeout=120, check=True,
        )  # fmt: skip
    match = re.search(r'data-report="([^"]*)"', done.stdout.decode())
    assert match, f"the page reported nothing: {done.stderr.decode()[-500:]}"
    report: dict[str, Any] = json.loads(html.unescape(match[1]))
    return report
