"""The tables and bar charts of docs/PERFORMANCE.md."""

import os
import platform
import re
import statistics
import subprocess
import textwrap
import time
from xml.sax.saxutils import escape

from peers import threads

BEGIN, END = "<!-- compare:begin -->", "<!-- compare:end -->"

# Title, figure, whether the least is best, chart.
ROWS = [
    ("logons a second, 1 client", "logon1.rate", False, None),
    ("logon, 1 client, p50 ms", "logon1.p50", True, None),
    ("logon, 1 client, p99 ms", "logon1.p99", True, None),
    ("logons a second, 16 clients", "logon16.rate", False, "logons"),
    ("logon, 16 clients, p50 ms", "logon16.p50", True, None),
    ("logon, 16 clients, p99 ms", "logon16.p99", True, None),
    ("CPU for each logon, 16 clients, µs", "logon16.cpu", True, "cpu"),
    ("small-file sessions a second, 8 clients", "small8.rate", False, "sessions"),
    ("small-file session, p50 ms", "small8.p50", True, None),
    ("small-file session, p99 ms", "small8.p99", True, None),
    ("CPU for each small-file session, µs", "small8.cpu", True, None),
    ("256 MiB download, 1 client, MiB/s", "big1.rate", False, None),
    ("CPU for each GiB, 1 client, ms", "big1.cpu", True, None),
    ("256 MiB downloads, 8 clients, MiB/s", "big8.rate", False, None),
    ("whole session, 8 downloads, p99 ms", "big8.p99", True, None),
    ("CPU for each GiB, 8 clients, ms", "big8.cpu", True, None),
    ("listings of 20,000 files a second, 1 client", "list.rate", False, None),
    ("listing, p50 ms", "list.p50", True, None),
    ("listing, p99 ms", "list.p99", True, None),
    ("CPU for each listing, ms", "list.cpu", True, "listing"),
    ("user memory at rest, KiB", "idle.rest_user", True, None),
    ("kernel memory at rest, KiB", "idle.rest_kernel", True, None),
    ("user memory added by each idle session, KiB", "idle.idle_user", True, None),
    ("kernel memory added by each idle session, KiB", "idle.idle_kernel", True, None),
    ("user memory with all idle sessions, KiB", "idle.held_user", True, "memory"),
    ("kernel memory with all idle sessions, KiB", "idle.held_kernel", True, None),
]


def plain(x):
    if abs(x) >= 100:
        return f"{x:,.0f}"
    return f"{x:.1f}" if abs(x) >= 10 else f"{x:.2f}"


def tables(peers, results, args):
    seen = [p for p in peers if results.get(p.name)]
    out = [textwrap.fill(about(seen, args), 120, break_on_hyphens=False), ""]
    heads = [p.title for p in seen]
    ratios = {"plimsoll", "floor"} <= {p.name for p in seen}
    if ratios:
        heads.insert(2, "plimsoll to the floor")
    out.append("| | " + " | ".join(heads) + " |")
    out.append("|---" * (len(heads) + 1) + "|")
    for title, key, least, _ in ROWS:
        middle = {p.name: statistics.median(v) for p in seen if (v := results[p.name].get(key))}
        others = [x for name, x in middle.items() if name != "floor"]
        best = (min if least else max)(others) if len(others) > 1 else None
        cells = []
        for p in seen:
            values = results[p.name].get(key)
            if not values:
                cells.append("")
                continue
            text = plain(middle[p.name])
            if p.name != "floor" and middle[p.name] == best:
                text = f"**{text}**"
            cells.append(f"{text} ({plain(min(values))} to {plain(max(values))})")
        if ratios:
            above, below = middle.get("plimsoll"), middle.get("floor")
            cells.insert(2, f"{above / below:.2f}" if above is not None and below else "")
        if any(cells):
            out.append(f"| {title} | " + " | ".join(cells) + " |")
    bad, short = [], []
    for p in seen:
        for key, values in results[p.name].items():
            if key.endswith(".bad") and sum(values):
                bad.append(f"{p.title} {sum(values):,} in {key.removesuffix('.bad')}")
        missing = [t for t, k, _, _ in ROWS if 0 < len(results[p.name].get(k, [])) < args.rounds]
        if missing:
            short.append(f"{p.title}: {', '.join(missing)}")
    out.append("")
    out.append(f"Sessions that were refused or failed, which no rate counts: {'; '.join(bad) or 'none'}.")
    if short:
        out += ["", f"Figures of fewer rounds than that, since a round failed: {'; '.join(short)}."]
    return "\n".join(out) + "\n"


def about(seen, args):
    cpu = "unknown processor"
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    named = ", ".join(f"{p.title} {v}".strip() for p in seen if (v := version(p.name, args)) is not None)
    cores = len(os.sched_getaffinity(0))
    return (
        f"`scripts/compare --rounds {args.rounds} --seconds {args.seconds:g}` on {time.strftime('%Y-%m-%d', time.gmtime())}: "
        f"{named}, and the floor with {threads(args)} threads. {cpu}, {cores} cores, Linux {platform.release()}. "
        f"The median of {args.rounds} rounds of {args.seconds:g} s, in which the servers took turns, and in parentheses the "
        f"least and the most, the ratio is of medians; {args.idle} idle sessions. The best server of each row is bold, the floor aside."
    )


def version(name, args):
    if name == "floor":
        return None
    try:
        if name == "plimsoll":
            text = subprocess.run([args.plimsoll, "--version"], capture_output=True, text=True, timeout=10).stdout
        elif name == "unftp":
            text = subprocess.run([args.unftp or "unftp", "--version"], capture_output=True, text=True, timeout=10).stdout
        else:
            with open(f"{args.cache}/{name}.version") as f:
                text = f.read()
    except OSError:
        return ""
    found = re.search(r"\d+\.\d+[\w.]*", text)
    return found.group() if found else ""


def write(docs, text, peers, results):
    seen = [p for p in peers if results.get(p.name)]
    pictures = []
    for title, key, least, chart in ROWS:
        bars = [(p.title, statistics.median(v), min(v), max(v)) for p in seen if (v := results[p.name].get(key))]
        if not chart or not bars:
            continue
        name = f"compare-{chart}.svg"
        with open(os.path.join(docs, name), "w") as f:
            f.write(bar_chart(f"{title} ({'less' if least else 'more'} is better)", bars))
        pictures.append(f"![{title}]({name})")
    path = os.path.join(docs, "PERFORMANCE.md")
    with open(path) as f:
        old = f.read()
    before, mark, rest = old.partition(BEGIN)
    _, mark2, after = rest.partition(END)
    if not mark or not mark2:
        raise SystemExit(f"{path}: no {BEGIN} ... {END}")
    inside = f"\n{text}\n" + "\n".join(pictures) + "\n"
    with open(path, "w") as f:
        f.write(before + BEGIN + inside + END + after)


def bar_chart(title, bars):
    left, width, step = 100, 420, 26
    most = max(high for _, _, _, high in bars) or 1
    height = 44 + step * len(bars)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="640" height="{height}" fill="#fff"/>',
        f'<text x="10" y="20" font-size="14">{escape(title)}</text>',
    ]
    for i, (name, middle, low, high) in enumerate(bars):
        y = 34 + step * i
        colour = {"plimsoll": "#1f6f8b", "the floor": "#b8b8b8"}.get(name, "#d9a441")
        out.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>')
        out.append(f'<rect x="{left}" y="{y}" width="{max(middle, 0) / most * width:.1f}" height="18" fill="{colour}"/>')
        a, b = left + max(low, 0) / most * width, left + max(high, 0) / most * width
        out.append(f'<path d="M{a:.1f} {y + 9}H{b:.1f}M{a:.1f} {y + 5}v8M{b:.1f} {y + 5}v8" stroke="#333" fill="none"/>')
        out.append(f'<text x="{b + 6:.1f}" y="{y + 13}">{plain(middle)}</text>')
    return "\n".join(out) + "\n</svg>\n"
