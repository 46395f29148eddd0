"""Other nodes on the robot: a Cyclone DDS 0.10 process that looks up every type that we announce must survive it.

Type objects with uint8 in them make such a process crash, whatever topics it is on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.ros.domains import fresh_domain
from vispeak_node.ros.dds import DdsNode
from vispeak_node.ros.messages import ALL

pytest.importorskip("cyclonedds", reason="the DDS transport is not installed")
SOURCE = Path(__file__).parent / "bystander.c"


@pytest.fixture(scope="module")
def bystander(tmp_path_factory):
    if shutil.which("gcc") is None or not Path("/usr/include/dds/dds.h").is_file():
        pytest.skip("needs gcc and Cyclone DDS 0.10 with its headers (apt-get install cyclonedds-dev)")
    program = tmp_path_factory.mktemp("bystander") / "bystander"
    subprocess.run(["gcc", "-o", str(program), str(SOURCE), "-lddsc"], check=True)
    return program


def test_a_bystander_on_an_older_release_survives_our_types(bystander):
    environment = {"ROS_DOMAIN_ID": fresh_domain(), "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}
    kinds = [kind for kind in ALL if not kind.DIALECT]
    command = [str(bystander), environment["ROS_DOMAIN_ID"], str(len(kinds)), "60"]
    with DdsNode("publisher", environment) as node:
        for kind in kinds:
            node.advertise(f"/every/{kind.__name__}", kind)
        node.start()
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=dict(os.environ), check=False)
    seen = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("rt/")}
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    assert seen == {f"rt/every/{kind.__name__}" for kind in kinds}
