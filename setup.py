"""For colcon. pyproject.toml says the same to newer setuptools, which prefers it; tests hold the two equal."""

from glob import glob

from setuptools import find_packages, setup

NAME = "vispeak_node"
SHARE = f"share/{NAME}"

setup(
    name=NAME,
    version="0.1.0",
    python_requires=">=3.10",
    packages=[
        *find_packages(include=[f"{NAME}*"]),
        *find_packages("training", include=["vispeak_training*"]),
        *find_packages("export", include=["vispeak_export*"]),
    ],
    package_dir={"vispeak_training": "training/vispeak_training", "vispeak_export": "export/vispeak_export"},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (SHARE, ["package.xml"]),
        (f"{SHARE}/launch", sorted(glob("launch/*.py"))),
        (f"{SHARE}/config", sorted(glob("config/*.yaml"))),
        (f"{SHARE}/models/vispeak-tiny", sorted(glob("models/vispeak-tiny/*"))),
    ],
    entry_points={
        "console_scripts": [
            "vispeak = vispeak_node.cli:main",
            "vispeak-bench = vispeak_training.bench.cli:main",
            "vispeak-export = vispeak_export.cli:main",
            "vispeak-theatre = vispeak_training.theatre.cli:main",
            "vispeak-train = vispeak_training.cli:main",
            "vispeak_node = vispeak_node.ros.ros2:main",
        ]
    },
)
