"""The assistant beside a recording: `ros2 launch vispeak_node replay.launch.py file:=walk.mcap` (a bag or a video).

The assistant's own arguments may be given too. The recording starts when the assistant is active.
"""

from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.event_handlers import OnStateTransition

from launch import LaunchContext, LaunchDescription

ASSISTANT = str(Path(__file__).resolve().parent / "assistant.launch.py")
VIDEOS = (".mp4", ".mkv", ".mov", ".avi", ".webm")
ARGUMENTS = {  # name: default, description
    "rate": ("1.0", "times faster than life"),
    "linger": ("5.0", "s to go on after the recording's end"),
}
SHARED = {  # with the assistant
    "image_topic": "/camera/image_raw",
    "compressed": "",
    "audio_topic": "/audio",
    "python_executable": "",
}


def command(file: str, rate: str, image_topic: str, compressed: str, audio_topic: str, python: str) -> list[str]:
    """A video goes out by our own player, which needs a DDS middleware; anything else by `ros2 bag play`."""
    if Path(file).suffix.lower() not in VIDEOS:
        return ["ros2", "bag", "play", file, "--rate", rate, "--clock"]
    encoding = "jpeg" if compressed.lower() in ("true", "1") else "rgb8"
    topics = ["--image-topic", image_topic, "--audio-topic", audio_topic, "--audio-info-topic", f"{audio_topic}_info"]
    player = [python or "python3", "-m", "vispeak_node", "play", file]
    return [*player, "--rate", rate, "--encoding", encoding, "--wait", "60", *topics]


def play(context: LaunchContext) -> list:
    """Starts the recording when the assistant is active; its end is everybody's end."""
    file, rate, linger = (LaunchConfiguration(name).perform(context) for name in ("file", *ARGUMENTS))
    shared = [LaunchConfiguration(name).perform(context) for name in SHARED]
    player = ExecuteProcess(cmd=command(file, rate, *shared), output="screen")
    over = EmitEvent(event=Shutdown(reason="the recording is over"))
    ended = OnProcessExit(target_action=player, on_exit=[TimerAction(period=float(linger), actions=[over])])
    active = OnStateTransition(goal_state="active", entities=[player], handle_once=True)
    return [RegisterEventHandler(ended), RegisterEventHandler(active)]


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs."""
    arguments = [
        DeclareLaunchArgument("file", description="a bag folder or file, or a video"),
        *(
            DeclareLaunchArgument(name, default_value=value, description=what)
            for name, (value, what) in ARGUMENTS.items()
        ),
        *(
            DeclareLaunchArgument(name, default_value=value, description="the assistant's")
            for name, value in SHARED.items()
        ),
    ]
    assistant = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(ASSISTANT),
        launch_arguments=[(name, LaunchConfiguration(name)) for name in SHARED],
    )
    # the handlers come first: the assistant may be active soon
    return LaunchDescription([*arguments, OpaqueFunction(function=play), assistant])
