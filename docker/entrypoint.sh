#!/bin/bash
# Runs a command in the built workspace.
set -e
source /opt/vispeak_node/ros2_ws/install/setup.bash
exec "$@"
