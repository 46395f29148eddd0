"""The tables of docs/ros2.md, from the code: `python -m vispeak_node.ros.reference docs/ros2.md` fills them in."""

from __future__ import annotations

import sys
from pathlib import Path

from vispeak_node.ros.parameters import parameters
from vispeak_node.ros.topics import BRIDGES, Delivery, TopicNames, inputs, outputs

_QOS = {
    Delivery.SENSOR: "best effort, keep last 5",
    Delivery.RELIABLE: "reliable, keep last 10",
    Delivery.LATCHED: "reliable, transient local, keep last 1",
}


def topics_table() -> str:
    """Topics with their types and quality of service."""
    names = TopicNames()
    rows = ["| | topic | type | QoS | |", "|---|---|---|---|---|"]
    for direction, topics in (("in", inputs(names)), ("out", outputs(names, BRIDGES))):
        for topic in topics:
            kind = topic.kind.NAME.replace("/msg/", "/")
            rows.append(f"| {direction} | `{topic.name}` | {kind} | {_QOS[topic.delivery]} | {topic.about} |")
    return "\n".join(rows)


def parameters_table() -> str:
    """Parameters with their defaults and when they may change."""
    rows = ["| parameter | default | may change | |", "|---|---|---|---|"]
    for parameter in parameters():
        default = f'"{parameter.default}"' if isinstance(parameter.default, str) else str(parameter.default).lower()
        about = parameter.description.replace("|", "/")
        rows.append(f"| `{parameter.name}` | {default} | {parameter.changeable} | {about} |")
    return "\n".join(rows)


def filled(text: str) -> str:
    """A document with the tables put between their markers, `<!-- topics -->` and `<!-- /topics -->` and so on.

    Raises:
        ValueError: a marker is missing.
    """
    for name, table in (("topics", topics_table()), ("parameters", parameters_table())):
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if begin not in text or end not in text:
            raise ValueError(f"the document has no {begin} ... {end}")
        before, after = text.partition(begin)[0], text.partition(end)[2]
        text = f"{before}{begin}\n{table}\n{end}{after}"
    return text


def main(arguments: list[str]) -> int:
    """Fills the document in place."""
    path = Path(arguments[0])
    path.write_text(filled(path.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
