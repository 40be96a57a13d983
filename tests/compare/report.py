"""What docs/PERFORMANCE.md shows: tables, charts, and what they were made with."""

import os
import platform
import re
import statistics
import subprocess
import textwrap
import time

import chart
from chart import plain
from rows import TABLES
from stages import MANY_OPEN, POOL, stages

BEGIN, END = "<!-- compare:begin -->", "<!-- compare:end -->"


def seen(peers, results):
    return [p for p in peers if results.figures[p.name] or results.failures[p.name]]


def titled(title, args):
    workers = next(stage.workers for stage in stages(args) if stage.name == "idle")
    return title.format(idle=args.idle, workers=workers)


def paragraph(text):
    return textwrap.fill(text, 120, break_on_hyphens=False) + "\n"


def text(peers, results, args):
    """All but the charts."""
    parts = [paragraph(about(seen(peers, results), args))]
    parts += [f"**{name}**\n\n{table(name, peers, results, args)}" for name in TABLES]
    return "\n".join([*parts, paragraph(what_failed(peers, results, args))])


def table(name, peers, results, args):
    shown = seen(peers, results)
    heads = [p.title for p in shown]
    ratios = {"plimsoll", "floor"} <= {p.name for p in shown}
    if ratios:
        heads.insert(2, "plimsoll to the floor")
    out = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for title, key, least, _ in TABLES[name]:
        middle = {p.name: statistics.median(v) for p in shown if (v := results.figures[p.name].get(key))}
        cells = [cell(p, key, least, middle, results) for p in shown]
        if ratios:
            above, below = middle.get("plimsoll"), middle.get("floor")
            cells.insert(2, f"{above / below:.2f}" if least is not None and above is not None and below else "")
        if any(cells):
            out.append(f"| {titled(title, args)} | " + " | ".join(cells) + " |")
    return "\n".join(out) + "\n"


def cell(peer, key, least, middle, results):
    values = results.figures[peer.name].get(key)
    if not values:
        return "failed" if key.partition(".")[0] in results.failures[peer.name] else ""
    others = [x for name, x in middle.items() if name != "floor"]
    best = (min if least else max)(others) if least is not None and len(others) > 1 else None
    value = plain(middle[peer.name])
    if peer.name != "floor" and middle[peer.name] == best:
        value = f"**{value}**"
    return f"{value} ({plain(min(values))} to {plain(max(values))})"


def what_failed(peers, results, args):
    bad, failed = [], []
    for p in seen(peers, results):
        for key, values in results.figures[p.name].items():
            if key.endswith(".bad") and sum(values):
                bad.append(f"{p.title} {sum(values):,} in {key.removesuffix('.bad')}")
        for step, reasons in results.failures[p.name].items():
            failed.append(f"{p.title} {step} in {len(reasons)} of {args.rounds} rounds ({reasons[-1]})")
    out = f"Sessions that were refused or failed, which no rate counts: {'; '.join(bad) or 'none'}."
    return f"{out} Measurements that failed: {'; '.join(failed) or 'none'}."


def about(shown, args):
    cpu = "unknown processor"
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    named = ", ".join(f"{p.title} {v}".strip() for p in shown if (v := version(p.name, args)) is not None)
    pools = {stage.name: stage.workers for stage in stages(args)}
    return (
        f"`scripts/compare --rounds {args.rounds} --seconds {args.seconds:g} --idle {args.idle}` on "
        f"{time.strftime('%Y-%m-%d', time.gmtime())}: {named}, and the floor. {cpu}, {len(args.cores)} cores, Linux "
        f"{platform.release()}. The median of {args.rounds} rounds of {args.seconds:g} s, in which the servers took turns, "
        f"and in parentheses the least and the most, the ratio is of medians. plimsoll has {POOL} workers and the floor as "
        f"many threads, but {pools['idle']} for the {args.idle} idle sessions, and {pools['growth']:,} for logons beside 10 "
        f"and {MANY_OPEN:,} open sessions. The best server of each row is bold, the floor aside."
    )


def version(name, args):
    if name == "floor":
        return None
    try:
        if name in ("plimsoll", "unftp"):
            command = [getattr(args, name) or name, "--version"]
            found = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout
        else:
            with open(f"{args.cache}/{name}.version") as f:
                found = f.read()
    except OSError:
        return ""
    found = re.search(r"\d+\.\d+[\w.]*", found)
    return found.group() if found else ""


def charts(docs, name, peers, results, args):
    """Draws those of a table, and gives the lines that show them."""
    lines = []
    for title, key, least, file in TABLES[name]:
        values = [(p.title, v) for p in seen(peers, results) if (v := results.figures[p.name].get(key))]
        if not file or not values:
            continue
        title = titled(title, args)
        drawn = chart.bars(
            f"{title} ({'less' if least else 'more'} is better)",
            [(server, statistics.median(v), min(v), max(v)) for server, v in values],
        )
        with open(os.path.join(docs, f"compare-{file}.svg"), "w") as f:
            f.write(drawn)
        lines.append(f"![{title}](compare-{file}.svg)\n")
    return "".join(lines)


def write(docs, peers, results, args):
    path = os.path.join(docs, "PERFORMANCE.md")
    with open(path) as f:
        old = f.read()
    before, mark, rest = old.partition(BEGIN)
    _, mark2, after = rest.partition(END)
    if not mark or not mark2:
        raise SystemExit(f"{path}: no {BEGIN} ... {END}")
    inside = [paragraph(about(seen(peers, results), args))]
    for name in TABLES:
        inside += [f"**{name}**\n", table(name, peers, results, args), charts(docs, name, peers, results, args)]
    inside.append(paragraph(what_failed(peers, results, args)))
    with open(path, "w") as f:
        f.write(f"{before}{BEGIN}\n" + "\n".join(part for part in inside if part) + END + after)
