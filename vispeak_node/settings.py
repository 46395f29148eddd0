"""Settings that commands share: flags made from a config dataclass, and where the shipped checkpoint lies.

A config class is the one place where a setting has its name, its default and its description (the comment behind the
field), so the command line cannot drift from it.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import os
import re
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

DEFAULT_MODEL = "vispeak-tiny"

Config = TypeVar("Config")

_FIELD_COMMENT = re.compile(r"^\s+(\w+)\s*:.*?#\s*(.+?)\s*$", re.MULTILINE)


def add_config_flags(parser: argparse.ArgumentParser, kind: type, skip: Collection[str] = (), suffix: str = "") -> None:
    """One flag for every field: `--name VALUE`, and `--name`/`--no-name` for a switch.

    Args:
        parser: gets an argument group named after the class.
        kind: a dataclass whose fields all have a default of type bool, int, float or str.
        skip: fields that get no flag.
        suffix: behind every flag's name, where a field's name alone would say too little.
    """
    group = parser.add_argument_group(_title(kind))
    comments = field_comments(kind)
    for field in dataclasses.fields(kind):
        if field.name in skip:
            continue
        options: dict[str, Any] = {"default": field.default, "help": _help(comments.get(field.name, ""), field.default)}
        if isinstance(field.default, bool):
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["type"] = type(field.default)
            options["metavar"] = {int: "N", float: "X"}.get(type(field.default), "NAME")
        group.add_argument("--" + field.name.replace("_", "-") + suffix, **options)


def config_from_args(kind: type[Config], args: argparse.Namespace, suffix: str = "") -> Config:
    """The config that the flags of `add_config_flags` describe.

    Raises:
        ValueError: the config refuses a value.
    """
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: getattr(args, name + suffix) for name in names if hasattr(args, name + suffix)})


def field_comments(kind: type) -> dict[str, str]:
    """What the comments behind a dataclass's fields say; empty where there is no source."""
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):
        return {}
    return {match[1]: match[2] for match in _FIELD_COMMENT.finditer(source)}


def default_model_dir() -> Path:
    """The checkpoint that ships with the project: in a checkout beside the package, else under a prefix's share/.

    Raises:
        ValueError: neither place has it.
    """
    # a built ROS workspace lists its prefixes; a plain installation has one
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    places = (
        Path(__file__).resolve().parent.parent / "models" / DEFAULT_MODEL,
        *(Path(prefix) / "share" / "vispeak_node" / "models" / DEFAULT_MODEL for prefix in prefixes),
    )
    for place in places:
        if (place / "config.json").is_file():
            return place
    raise ValueError(f"no shipped checkpoint in {places[0]} or {places[-1]}; name one with --model DIR")


def _title(kind: type) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.__name__.removesuffix("Config")).lower() + " settings"


def _help(comment: str, default: Any) -> str:
    text = f"{comment} (default: {default})" if comment else f"default: {default}"
    return text.replace("%", "%%")
