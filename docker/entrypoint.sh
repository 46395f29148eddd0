#!/bin/bash
set -e
source /opt/vispeak_node/ros2_ws/install/setup.bash
exec "$@"
