"""Bar charts as SVG."""

from xml.sax.saxutils import escape

COLOURS = {"plimsoll": "#1f6f8b", "the floor": "#b8b8b8"}


def plain(x):
    if abs(x) >= 100:
        return f"{x:,.0f}"
    return f"{x:.1f}" if abs(x) >= 10 else f"{x:.2f}"


def bars(title, rows):
    """A bar for each (name, median, least, most); whiskers span the rounds."""
    left, width, step = 100, 420, 26
    most = max(high for _, _, _, high in rows) or 1
    height = 44 + step * len(rows)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="640" height="{height}" fill="#fff"/>',
        f'<text x="10" y="20" font-size="14">{escape(title)}</text>',
    ]
    for i, (name, middle, low, high) in enumerate(rows):
        y = 34 + step * i
        colour = COLOURS.get(name, "#d9a441")
        out.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>')
        out.append(f'<rect x="{left}" y="{y}" width="{max(middle, 0) / most * width:.1f}" height="18" fill="{colour}"/>')
        a, b = left + max(low, 0) / most * width, left + max(high, 0) / most * width
        out.append(f'<path d="M{a:.1f} {y + 9}H{b:.1f}M{a:.1f} {y + 5}v8M{b:.1f} {y + 5}v8" stroke="#333" fill="none"/>')
        out.append(f'<text x="{b + 6:.1f}" y="{y + 13}">{plain(middle)}</text>')
    return "\n".join(out) + "\n</svg>\n"
