"""The assistant on a robot's camera: `ros2 launch vispeak_node assistant.launch.py image_topic:=/camera/image_raw`."""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext, LaunchDescription

# beside the launch folder both in a checkout and in share/vispeak_node
PARAMETERS = str(Path(__file__).resolve().parent.parent / "config" / "assistant.yaml")

ARGUMENTS = {  # name: default, description
    "namespace": ("vispeak", "of the node and its topics"),
    "params_file": (PARAMETERS, "ROS parameter file; the arguments below come before it"),
    "model": ("", "checkpoint folder; empty: what the parameter file says"),
    "device": ("", "cpu, cuda, cuda:1, ...; empty: what the parameter file says"),
    "image_topic": ("/camera/image_raw", "the camera's topic; its compressed images come on <image_topic>/compressed"),
    "compressed": ("", "true: read the compressed images only; false: the others only; empty: whichever come"),
    "audio_topic": ("/audio", "the microphone's topic; its format comes on <audio_topic>_info"),
    "audio": ("", "true: listen to sound; frames then wait for their second of it"),
    "image_qos": ("", "SENSOR_DATA, SYSTEM_DEFAULT or DEFAULT (reliable)"),
    "autostart": ("", "false: wait for somebody who configures and activates the node"),
    "use_sim_time": ("false", "take the time from /clock"),
    "log_level": ("info", "debug, info, warn, error"),
    "python_executable": ("", "Python of a virtual environment that has the libraries; empty: the system's"),
    "respawn": ("false", "start the node again if it ends"),
}
OVERRIDES = {"model": str, "device": str, "audio": bool, "image_qos": str, "autostart": bool}
YES, NO = ("true", "1"), ("false", "0")
UNREAD = "unread/image"  # where nobody publishes


def image_remappings(topic: str, compressed: str) -> list[tuple[str, str]]:
    """Where the images come from. Reading both kinds makes many cameras send both."""
    return [
        ("image", UNREAD if compressed.lower() in YES else topic),
        ("image/compressed", UNREAD + "/compressed" if compressed.lower() in NO else f"{topic}/compressed"),
    ]


def program(python: str) -> dict:
    """The installed command, or the module in another Python."""
    if not python:
        return {"package": "vispeak_node", "executable": "vispeak_node"}
    return {"executable": python, "arguments": ["-m", "vispeak_node.ros.ros2"]}


def start(context: LaunchContext) -> list:
    """The node, once the arguments are known."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    overrides = {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for name, kind in OVERRIDES.items()
        if given[name]
    }
    overrides["use_sim_time"] = ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)
    audio = given["audio_topic"]
    node = LifecycleNode(
        **program(given["python_executable"]),
        name="vispeak",
        namespace=given["namespace"],
        parameters=[given["params_file"], overrides],
        remappings=[
            *image_remappings(given["image_topic"], given["compressed"]),
            ("audio", audio),
            ("audio_info", f"{audio}_info"),
        ],
        ros_arguments=["--log-level", given["log_level"]],
        respawn=given["respawn"].lower() in YES,
        respawn_delay=2.0,
        output="screen",
    )
    return [node]


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=about)
        for name, (default, about) in ARGUMENTS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])
