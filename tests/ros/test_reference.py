"""The documents say what the code says; parameters follow from the config classes."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import pytest

from vispeak_node.ros import node
from vispeak_node.ros.assistant import AssistantConfig
from vispeak_node.ros.parameters import RosConfig, configs, parameter_file, parameters, read_parameters
from vispeak_node.ros.reference import filled
from vispeak_node.runtime.config import CHANGEABLE, SessionConfig

DOCUMENT = Path(__file__).parent.parent.parent / "docs/ros2.md"


def test_the_tables_are_those_of_the_code():
    assert filled(DOCUMENT.read_text()) == DOCUMENT.read_text(), "run python -m vispeak_node.ros.reference docs/ros2.md"
    with pytest.raises(ValueError, match="topics"):
        filled("nothing")


def test_every_setting_is_a_parameter_with_a_description():
    listed = {parameter.name: parameter for parameter in parameters()}
    for part in (RosConfig, AssistantConfig, SessionConfig):
        for field in dataclasses.fields(part):
            assert listed[field.name].default == field.default and listed[field.name].description
    assert {name for name, p in listed.items() if p.changeable == "always"} == CHANGEABLE


def test_defaults_make_the_default_configs_and_bad_values_are_named():
    defaults = {parameter.name: parameter.default for parameter in parameters()}
    assert configs(defaults) == (RosConfig(), AssistantConfig(), SessionConfig())
    for name, value in (
        ("threshold", -1.0), ("threshold", float("nan")), ("image_qos", "BEST"), ("image_depth", 0), ("dtype", "int8"),
        ("audio_dialect", "x"), ("cameras", "a b"), ("bridges", "x"),
        ("system_prompt", "x"), ("max_waiting", 0), ("min_event_score", 2.0),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=name):
            configs(defaults | {name: value})


def test_cameras_are_a_list_of_names():
    assert RosConfig().camera_names == [""]
    assert RosConfig(cameras="front, rear").camera_names == ["front", "rear"]


def test_the_parameter_file_is_yaml_with_the_defaults():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    values = yaml.safe_load(parameter_file())["/**"]["ros__parameters"]
    assert values == {parameter.name: parameter.default for parameter in parameters()}


def test_a_parameter_file_is_read_as_ros_reads_it(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(parameter_file())
    assert read_parameters(path) == {parameter.name: parameter.default for parameter in parameters()}
    path.write_text(
        "/vispeak/vispeak:\n  ros__parameters: {threshold: 0.7}\n"
        "/**:\n  ros__parameters: {threshold: 0.5, refractory: 9.0, model: /m}\n"
        "/other:\n  ros__parameters: {threshold: 0.1}\n"
    )
    values = read_parameters(path)
    assert values == {"threshold": 0.7, "refractory": 9.0, "model": "/m"}
    parser = argparse.ArgumentParser()
    node.add_arguments(parser)
    args = parser.parse_args(["--refractory", "1.5"])
    node.apply_parameters(args, values)
    assert (args.threshold, args.refractory, str(args.model)) == (0.7, 1.5, "/m")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a",
        "/**: 3",
        "/**:\n  ros__parameters: {nothing: 1}",
        "/**:\n  ros__parameters: {window: 1.5}",
        "a: [",
        "\0",
    ],
)
def test_a_file_that_is_no_parameter_file_is_one_clear_line(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"a\.yaml") as caught:
        read_parameters(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"missing\.yaml"):
        read_parameters(tmp_path / "missing.yaml")
