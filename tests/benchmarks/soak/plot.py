"""Draw a soak: `plot.py SOAK.json PICTURE.png`, in the environment of `requirements.lock` beside this file.

Memory, tasks, what is under way, and what is open, over the minutes; grey is the warm-up and the time after the load,
dotted lines are reloads.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot  # the backend is chosen before
from PIL import Image

_COLOURS = 32  # of the picture: lines on white need no more, and it is a third of the size

PANELS = (
    ("MiB", {"rss": "memory in use"}),
    ("tasks", {"tasks": "asyncio tasks"}),
    ("under way", {"calls": "calls", "open_upstream": "upstream answers"}),
    ("open", {"files": "descriptors", "connections": "of these, connections"}),
)


def draw(soak: dict[str, Any], picture: Path) -> None:
    """One panel below the other."""
    samples, phases = soak["samples"], soak["phases"]
    minutes = [sample["at"] / 60 for sample in samples]
    reloads = [b["at"] / 60 for a, b in itertools.pairwise(samples) if b["reloads"] > a["reloads"]]
    figure, panels = pyplot.subplots(len(PANELS), sharex=True, figsize=(10, 8), layout="constrained")
    for panel, (unit, lines) in zip(panels, PANELS, strict=True):
        panel.axvspan(0, phases["warm"] / 60, color="0.93")
        panel.axvspan(phases["end"] / 60, max(minutes[-1], phases["end"] / 60), color="0.93")
        for at in reloads:
            panel.axvline(at, color="0.8", linewidth=0.5, linestyle=":")
        for name, label in lines.items():
            panel.plot(minutes, [sample[name] for sample in samples], linewidth=0.9, label=label)
        panel.set_ylabel(unit)
        panel.set_ylim(0, 1.3 * max(sample[name] for sample in samples for name in lines))  # room for the legend
        panel.legend(loc="upper left", ncols=2, fontsize="small", frameon=False)
    panels[0].set_title(soak["title"], fontsize="medium")
    panels[-1].set_xlabel("minutes")
    panels[-1].set_xlim(0, minutes[-1])
    figure.savefig(picture, dpi=90)
    with Image.open(picture) as image:
        few = image.convert("RGB").quantize(_COLOURS)
    few.save(picture, optimize=True)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    draw(json.loads(source.read_text()), target)
