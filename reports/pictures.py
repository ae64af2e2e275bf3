"""Inline SVG that a reader hears as words: the fates of rows as bars, told apart by pattern and order as well as by colour, and
how fast rows were read.
"""

from collections.abc import Mapping, Sequence

from reports.markup import Html, plain
from reports.model import FATES

_LEAST = 0.7  # percent of a bar's width at which one row among millions is still seen

PATTERNS = Html(
    """<svg class="patterns" aria-hidden="true"><defs>
<pattern id="merged" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<rect class="merged-ground" width="6" height="6"/><rect class="merged-line" width="2.5" height="6"/></pattern>
<pattern id="filtered" width="5" height="5" patternUnits="userSpaceOnUse">
<rect class="filtered-ground" width="5" height="5"/><circle class="filtered-dot" cx="2.5" cy="2.5" r="1.2"/></pattern>
</defs></svg>"""
)
"""What the bars are filled with: merged and filtered rows differ from the others by more than a colour."""


def bar(label: str, counts: Mapping[str, int], share: float = 1.0, *, large: bool = False) -> Html:
    """The fates as lengths of a bar that is filled up to `share`; the numbers stand beside it and in its label."""
    shown = {fate: max(0, counts[fate]) for fate in FATES}
    whole, least = sum(shown.values()), _LEAST if large else 3 * _LEAST
    rest = max(0.0, 100 * share - least * sum(n > 0 for n in shown.values()))
    widths = {fate: least + rest * n / whole if n else 0.0 for fate, n in shown.items()}
    at, parts = 0.0, []
    for fate, width in widths.items():
        if width:
            parts.append(f'<rect class="{fate}" x="{at:.2f}%" width="{width:.2f}%" height="100%"/>')
        at += width
    said = ", ".join(f"{counts[fate]:,} {fate}" for fate in FATES if counts[fate]) or "no rows"
    unread = "" if share == 1 else f"; {100 * share:.0f} % of the chunks are done"
    return Html(
        f'<svg class="bar{" large" if large else ""}" role="img" aria-label="{plain(f"{label}: {said}{unread}")}">'
        f'<rect class="unread" width="100%" height="100%"/>{"".join(parts)}</svg>'
    )


def steps(label: str, values: Sequence[int]) -> Html:
    """Values over time, as a staircase as high as the highest of them; what the numbers are stands beside it."""
    highest = max(max(values, default=0), 1)
    path = "".join(f"V{100 - 100 * value / highest:.1f}H{at}" for at, value in enumerate(values, 1))
    return Html(
        f'<svg class="speed" role="img" aria-label="{plain(label)}" viewBox="0 0 {len(values)} 100" '
        f'preserveAspectRatio="none"><path d="M0 100{path}V100Z"/></svg>'
    )
