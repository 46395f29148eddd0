# docker build -f docker/humble.Dockerfile -t vispeak:humble .
# docker run --rm --net host --ipc host --gpus all vispeak:humble
FROM ros:humble-ros-base
SHELL ["/bin/bash", "-c"]

RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-pip python3-venv ros-humble-rmw-cyclonedds-cpp \
    && rm -rf /var/lib/apt/lists/*

# the libraries that apt does not have live in an environment that still sees ROS's own
RUN python3 -m venv --system-site-packages /opt/vispeak
WORKDIR /opt/vispeak_node
COPY constraints.txt .
RUN /opt/vispeak/bin/pip install --no-cache-dir -c constraints.txt torch
COPY . .
# of the node itself only what the workspace builds stays
RUN /opt/vispeak/bin/pip install --no-cache-dir -c constraints.txt . \
    && /opt/vispeak/bin/pip uninstall -y vispeak_node \
    && rm -rf build *.egg-info

RUN source /opt/ros/humble/setup.bash \
    && cd ros2_ws \
    && colcon build --cmake-args -DBUILD_TESTING=OFF

ENV RMW_IMPLEMENTATION=rmw_cyclonedds_cpp
ENTRYPOINT ["/opt/vispeak_node/docker/entrypoint.sh"]
CMD ["ros2", "launch", "vispeak_node", "assistant.launch.py", "python_executable:=/opt/vispeak/bin/python"]
