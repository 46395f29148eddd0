"""The assistant beside a recording: `ros2 launch vispeak_node replay.launch.py file:=walk.mcap` (a bag or a video)."""

from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from launch import LaunchContext, LaunchDescription

ASSISTANT = str(Path(__file__).resolve().parent / "assistant.launch.py")
VIDEOS = (".mp4", ".mkv", ".mov", ".avi", ".webm")


def play(context: LaunchContext) -> list:
    """A video goes out by our own player, anything else by `ros2 bag play`; its end is everybody's end."""
    file, rate = (LaunchConfiguration(name).perform(context) for name in ("file", "rate"))
    topic = LaunchConfiguration("image_topic").perform(context)
    if Path(file).suffix.lower() in VIDEOS:
        command = ["vispeak", "play", file, "--rate", rate, "--image-topic", topic, "--wait", "60"]
    else:
        command = ["ros2", "bag", "play", file, "--rate", rate, "--clock"]
    player = ExecuteProcess(cmd=command, output="screen")
    ended = OnProcessExit(target_action=player, on_exit=[EmitEvent(event=Shutdown(reason="the recording is over"))])
    return [player, RegisterEventHandler(ended)]


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs; the assistant's own arguments may be given too."""
    arguments = [
        DeclareLaunchArgument("file", description="a bag folder or file, or a video"),
        DeclareLaunchArgument("rate", default_value="1.0", description="times faster than life"),
        DeclareLaunchArgument("image_topic", default_value="/camera/image_raw", description="the camera's topic"),
    ]
    assistant = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(ASSISTANT),
        launch_arguments={"image_topic": LaunchConfiguration("image_topic")}.items(),
    )
    return LaunchDescription([*arguments, assistant, OpaqueFunction(function=play)])
