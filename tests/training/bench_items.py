"""Items of ViSpeak-Bench that the benchmark's tests share."""

from __future__ import annotations

import json
from pathlib import Path

from vispeak_training.bench.tasks import TASKS

TASK = {task.code: task for task in TASKS}


def entry(code: str, video: str = "v.mp4", **changes: object) -> dict[str, object]:
    turn = {"from": "gpt", "value": "Hello!", "time": 2.5, "timespan": [1, 3]}
    found: dict[str, object] = {"video": video, "proactive": TASK[code].proactive}
    if not TASK[code].timed:
        text = "What is this? A. Bicycle B. A pot C. Car D. Pen\n\nThe best option is:"
        return found | {"questions": text, "ans": "B", "ans_full": "A pot"} | changes
    past = [{"from": "human", "value": "Hm?", "time": 0.5}, {"from": "gpt", "value": "So.", "time": 0.6}]
    return found | {"conversations": [*past, turn] if TASK[code].dialogue else [turn]} | changes


def write_annotations(folder: Path, code: str, entries: object, name: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / (name or TASK[code].files[0])).write_text(json.dumps(entries))
    return folder
