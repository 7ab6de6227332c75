"""The memory limit of a container, read from files as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfqonnx.core.container_memory import find_memory_limit, usable_memory

GIB = 2**30
V2 = "36 25 0:32 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw,nsdelegate\n"
V1 = (
    "30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
    "31 25 0:27 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory\n"
)
NONE_V1 = "9223372036854771712\n"


def machine(root: Path, groups: str, mounts: str, limits: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts, **limits}.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "mounts", "limits", "wanted"),
    [
        # version 2: the container's own group is the top of its mount
        ("0::/\n", V2, {"sys/fs/cgroup/memory.max": f"{4 * GIB}\n"}, 4 * GIB),
        ("0::/\n", V2, {"sys/fs/cgroup/memory.max": "max\n"}, None),
        ("0::/\n", V2, {}, None),
        # nested groups: the least of all counts
        ("0::/a/b\n", V2, {"sys/fs/cgroup/a/memory.max": f"{GIB}\n",
                           "sys/fs/cgroup/a/b/memory.max": f"{2 * GIB}\n"}, GIB),
        ("0::/a/b\n", V2, {"sys/fs/cgroup/a/memory.max": "max\n",
                           "sys/fs/cgroup/a/b/memory.max": f"{2 * GIB}\n"}, 2 * GIB),
        # the path is that of the host, which is not seen in the container
        ("0::/system.slice/docker-1.scope\n", V2,
         {"sys/fs/cgroup/memory.max": f"{3 * GIB}\n"}, 3 * GIB),
        ("0::/../../other\n", V2, {"sys/fs/cgroup/memory.max": f"{3 * GIB}\n"}, 3 * GIB),
        # the top of the mount is a group of the host
        ("0::/kubepods/pod1/c\n", V2.replace(" / /sys", " /kubepods/pod1 /sys"),
         {"sys/fs/cgroup/c/memory.max": f"{GIB}\n", "sys/fs/cgroup/memory.max": "max\n"}, GIB),
        # version 1
        ("5:cpu:/x\n4:memory:/docker/1\n", V1,
         {"sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": f"{2 * GIB}\n"}, 2 * GIB),
        ("4:memory:/docker/1\n", V1,
         {"sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}\n"}, 2 * GIB),
        ("4:hugetlb,memory:/\n", V1, {"sys/fs/cgroup/memory/memory.limit_in_bytes": NONE_V1}, None),
        # both: version 1 limits memory, version 2 is mounted beside it
        ("4:memory:/a\n0::/a\n", V1 + V2.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified "),
         {"sys/fs/cgroup/memory/a/memory.limit_in_bytes": f"{GIB}\n"}, GIB),
        # damaged, empty, another system
        ("0::/\n", V2, {"sys/fs/cgroup/memory.max": "-1\n"}, None),
        ("0::/\n", V2, {"sys/fs/cgroup/memory.max": "0\n"}, None),
        ("0::/\n", V2, {"sys/fs/cgroup/memory.max": ""}, None),
        ("nonsense\n", "nonsense - \n- cgroup2\n", {}, None),
        ("0::/a b\n", V2.replace(" /sys/fs/cgroup ", r" /sys/fs/c\040group "),
         {"sys/fs/c group/a b/memory.max": f"{GIB}\n"}, GIB),
    ],
)  # fmt: skip
def test_the_least_limit_of_all_groups_above_is_found(
    tmp_path: Path, groups: str, mounts: str, limits: dict[str, str], wanted: int | None
) -> None:
    assert find_memory_limit(machine(tmp_path, groups, mounts, limits)) == wanted


def test_a_system_without_groups_has_no_limit(tmp_path: Path) -> None:
    assert find_memory_limit(tmp_path) is None
    assert usable_memory() > 0
