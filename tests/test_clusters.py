"""A board's cores are found, chosen by name or number, and a process is seen to run on them."""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boardfit.devices.clusters import (
    Cluster,
    choose_cores,
    clusters_of,
    discover_clusters,
    parse_allowed,
    pinned,
    verify_cores,
)
from boardfit.devices.errors import InputError, MeasurementError
from boardfit.devices.fake import FakeTransport
from boardfit.devices.local import LocalTransport

from .conftest import missing

# Capacities of a Pixel 6 (Tensor: four A55, two A76, two X1), frequencies in kHz.
PIXEL_6 = {
    **dict.fromkeys(range(4), (160, 1803000)),
    **dict.fromkeys((4, 5), (498, 2253000)),
    **dict.fromkeys((6, 7), (1024, 2802000)),
}
PIXEL_6_CLUSTERS = (
    Cluster("little", (0, 1, 2, 3), 160, 1.803e9),
    Cluster("middle", (4, 5), 498, 2.253e9),
    Cluster("big", (6, 7), 1024, 2.802e9),
)


def tree(folder: Path, cores: Mapping[int, tuple[int | None, int | None]]) -> str:
    """A made-up /sys; the root."""
    for core, (capacity, frequency) in cores.items():
        base = folder / f"sys/devices/system/cpu/cpu{core}"
        (base / "cpufreq").mkdir(parents=True)
        (base / "topology").mkdir()
        (base / "topology/physical_package_id").write_text("0\n")
        if capacity is not None:
            (base / "cpu_capacity").write_text(f"{capacity}\n")
        if frequency is not None:
            (base / "cpufreq/cpuinfo_max_freq").write_text(f"{frequency}\n")
    return str(folder)


def test_a_phones_clusters_are_found_and_named(tmp_path: Path) -> None:
    root = tree(tmp_path / "a root", PIXEL_6)
    (tmp_path / "a root/sys/devices/system/cpu/cpufreq/policy0").mkdir(parents=True)
    assert discover_clusters(LocalTransport(), root=root) == PIXEL_6_CLUSTERS


def test_without_capacities_the_frequencies_tell(tmp_path: Path) -> None:
    # Rockchip RK3399: four A53 and two A72.
    cores = {core: (None, 1416000 if core < 4 else 1800000) for core in range(6)}
    found = discover_clusters(LocalTransport(), root=tree(tmp_path, cores))
    assert [(cluster.name, cluster.cores) for cluster in found] == [
        ("little", (0, 1, 2, 3)),
        ("big", (4, 5)),
    ]


def test_cores_of_one_kind_are_one_cluster(tmp_path: Path) -> None:
    pi = tree(tmp_path / "pi", dict.fromkeys(range(4), (1024, 2400000)))
    assert discover_clusters(LocalTransport(), root=pi) == (
        Cluster("all", (0, 1, 2, 3), 1024, 2.4e9),
    )
    favoured = {core: (None, 5100000 + 100000 * (core % 3)) for core in range(8)}
    found = discover_clusters(LocalTransport(), root=tree(tmp_path / "pc", favoured))
    assert [cluster.name for cluster in found] == ["all"]


def test_cores_that_are_off_belong_to_none(tmp_path: Path) -> None:
    root = tree(tmp_path, PIXEL_6)
    (tmp_path / "sys/devices/system/cpu/cpu7/online").write_text("0\n")
    (tmp_path / "sys/devices/system/cpu/cpu6/online").write_text("1\n")
    shutil.rmtree(tmp_path / "sys/devices/system/cpu/cpu7/cpufreq")
    found = discover_clusters(LocalTransport(), root=root)
    assert [cluster.cores for cluster in found] == [(0, 1, 2, 3), (4, 5), (6,)]


def test_without_speeds_the_topology_tells_the_borders() -> None:
    files = {
        f"/sys/devices/system/cpu/cpu{core}/topology/{name}": value
        for core in range(4)
        for name, value in (("physical_package_id", f"{core // 2}"), ("cluster_id", "-1"))
    }
    assert clusters_of(files) == (Cluster("cluster0", (0, 1)), Cluster("cluster1", (2, 3)))


def test_this_machine_has_cores_or_shows_none() -> None:
    found = discover_clusters(LocalTransport())
    cores = [core for cluster in found for core in cluster.cores]
    assert len(set(cores)) == len(cores)


def test_a_board_without_a_shell_shows_none() -> None:
    assert discover_clusters(FakeTransport()) == ()


@given(st.dictionaries(st.integers(0, 40), st.integers(1, 1024), min_size=1))
def test_each_core_is_in_one_cluster_and_faster_ones_come_later(capacities: dict[int, int]) -> None:
    files = {f"/cpu{core}/cpu_capacity": f"{value}" for core, value in capacities.items()}
    found = clusters_of(files)
    assert sorted(core for cluster in found for core in cluster.cores) == sorted(capacities)
    assert len({cluster.name for cluster in found}) == len(found)
    for slow, fast in itertools.pairwise(found):
        slowest = min(capacities[core] for core in fast.cores)
        assert all(capacities[core] < slowest for core in slow.cores)


# Choosing


@pytest.mark.parametrize(
    ("wanted", "cores"),
    [
        ("big", (6, 7)),
        ("middle", (4, 5)),
        ("4-7", (4, 5, 6, 7)),
        ("7,4", (4, 7)),
        ([5, 4, 4], (4, 5)),
    ],
)
def test_cores_are_chosen_by_name_or_number(
    wanted: str | list[int], cores: tuple[int, ...]
) -> None:
    assert choose_cores(PIXEL_6_CLUSTERS, wanted) == cores


@pytest.mark.parametrize("wanted", ["huge", "", "6-9", [], [8], "-1", "0-99999999"])
def test_cores_that_are_not_there_are_refused_with_those_that_are(wanted: str | list[int]) -> None:
    with pytest.raises(InputError, match=r"the board has little \(0-3\), middle \(4-5\), big"):
        choose_cores(PIXEL_6_CLUSTERS, wanted)
    with pytest.raises(InputError, match="does not show its cores"):
        choose_cores((), wanted)


def test_the_mask_is_in_hexadecimal() -> None:
    assert pinned((4, 7), ["ls", "-l"]) == ["taskset", "90", "ls", "-l"]
    assert pinned(range(64, 68), ["true"]) == ["taskset", "f0000000000000000", "true"]
    with pytest.raises(ValueError, match="at least"):
        pinned((), ["true"])


@pytest.mark.parametrize("tool", ["taskset", "toybox"])
def test_a_real_process_is_pinned_and_seen_to_be(tool: str, tmp_path: Path) -> None:
    found = shutil.which(tool)
    if found is None or not hasattr(os, "sched_getaffinity"):
        missing(tool, f"apt-get install {tool.replace('taskset', 'util-linux')}")
    core = max(os.sched_getaffinity(0))
    command = pinned([core], ["cat", "/proc/self/status"])
    argv = [tool, *command] if tool == "toybox" else command
    transport = LocalTransport()
    status = transport.run(argv, timeout=10).check().stdout.decode()
    assert parse_allowed(status) == (core,)
    channel = transport.open([*argv[:-2], "sh", "-c", "echo $$; exec cat"])
    process = int(channel.receive(timeout=10))
    verify_cores(transport, process, [core])
    with pytest.raises(MeasurementError, match=rf"pinned to cores 0-900 and may run on .*{core}"):
        verify_cores(transport, process, range(901))
    transport.close()


def test_a_process_that_is_gone_runs_nowhere() -> None:
    with pytest.raises(MeasurementError, match="the system does not tell"):
        verify_cores(LocalTransport(), 2**22 + 1, [0])


def test_no_text_upsets_the_parsers() -> None:
    rng = random.Random(0)
    names = ["cpu_capacity", "online", "cpufreq/cpuinfo_max_freq", "topology/cluster_id", "x"]
    values = ["0", "1", "-1", "1024", "nan", "inf", "1e9", "9" * 30, "", "x", "٣", "1_0", "--1"]
    for _ in range(3000):
        files = {
            f"/sys/cpu{rng.choice([0, 1, 9999, 10**9])}/{rng.choice(names)}": rng.choice(values)
            for _ in range(rng.randrange(8))
        }
        found = clusters_of(files)
        assert len({core for cluster in found for core in cluster.cores}) == sum(
            len(cluster.cores) for cluster in found
        )
        parse_allowed("Cpus_allowed_list:\t" + rng.choice(values))
