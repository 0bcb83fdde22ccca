"""What boards say about themselves, understood; what changed between two measurements, in words.

The PC's texts were read on a virtual machine and shortened. The Raspberry Pi's and the Jetson's
were not read on boards: they are put together by hand, in the form that owners report in public.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boardfit.devices.base import Completed, Description
from boardfit.devices.conditions import (
    controls,
    describe,
    mismatch,
    parse_cpu_list,
    parse_governors,
    parse_memory,
    parse_model,
    parse_os_release,
    parse_processors,
    parse_soc,
)
from boardfit.devices.errors import DeviceLost
from boardfit.devices.fake import FakeTransport
from boardfit.devices.local import LocalTransport
from boardfit.devices.settings_record import Wanted


def arm_cores(count: int, features: str, variant: str, part: str, revision: int) -> str:
    return "".join(
        f"processor\t: {core}\n{features}CPU implementer\t: 0x41\nCPU architecture: 8\n"
        f"CPU variant\t: {variant}\nCPU part\t: {part}\nCPU revision\t: {revision}\n\n"
        for core in range(count)
    )


PI_4 = (
    arm_cores(
        4,
        "BogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\n",
        "0x0",
        "0xd08",
        3,
    )
    + "Hardware\t: BCM2835\nRevision\t: c03112\nModel\t\t: Raspberry Pi 4 Model B Rev 1.2\n"
)
PI_5 = arm_cores(4, "BogoMIPS\t: 108.00\n", "0x4", "0xd0b", 1) + (
    "Revision\t: c04170\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n"
)
PI_4_32_BIT = (
    "processor\t: 0\nmodel name\t: ARMv7 Processor rev 3 (v7l)\nBogoMIPS\t: 108.00\n\n"
    "Hardware\t: BCM2711\nRevision\t: c03112\nModel\t\t: Raspberry Pi 4 Model B Rev 1.2\n"
)
ORIN = arm_cores(
    12,
    "model name\t: ARMv8 Processor rev 1 (v8l)\nBogoMIPS\t: 62.50\n"
    "Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm\n",
    "0x0",
    "0xd42",
    1,
)
PC = """\
processor	: 0
vendor_id	: AuthenticAMD
cpu family	: 26
model		: 2
model name	: AMD EPYC
stepping	: 1
microcode	: 0x1000065
cpu MHz		: 2596.122
cache size	: 1024 KB
physical id	: 0
siblings	: 2
core id		: 0
cpu cores	: 2
flags		: fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx
power management:

processor	: 1
vendor_id	: AuthenticAMD
cpu family	: 26
model		: 2
model name	: AMD EPYC
flags		: fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx
power management:

"""
PC_MEMORY = """\
MemTotal:       24684084 kB
MemFree:        24188848 kB
MemAvailable:   24265272 kB
SwapTotal:             0 kB
HugePages_Total:       0
"""
DEBIAN = """\
PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME="Debian GNU/Linux"
VERSION_ID="12"
VERSION="12 (bookworm)"
ID=debian
"""


def board(
    files: Mapping[str, str],
    governors: Mapping[int, str] = MappingProxyType({}),
    machine: str = "aarch64",
) -> FakeTransport:
    frequency = "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor"
    contents = {
        **files,
        **{frequency.format(core): f"{governor}\n" for core, governor in governors.items()},
    }
    return FakeTransport(
        {path: text.encode() for path, text in contents.items()},
        uname={"-s": "Linux", "-r": "6.1.21-v8+", "-m": machine},
    )


# Whole boards


def test_a_raspberry_pi() -> None:
    transport = board(
        {
            "/proc/cpuinfo": PI_4,
            "/proc/meminfo": "MemTotal:        3884368 kB\nMemFree:         2990212 kB\n",
            "/proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.2\0",
            "/proc/device-tree/compatible": "raspberrypi,4-model-b\0brcm,bcm2711\0",
            "/etc/os-release": DEBIAN,
            "/sys/devices/system/cpu/online": "0-3\n",
        },
        dict.fromkeys(range(4), "ondemand"),
    )
    assert describe(transport) == Description(
        model="Raspberry Pi 4 Model B Rev 1.2",
        soc="bcm2711",
        cores=4,
        memory_bytes=3884368 * 1024,
        system="Debian GNU/Linux 12 (bookworm)",
        kernel="6.1.21-v8+",
        machine="aarch64",
        governor="ondemand",
    )


def test_a_jetson_with_cores_switched_off() -> None:
    transport = board(
        {
            "/proc/cpuinfo": ORIN,
            "/proc/meminfo": "MemTotal:       64349260 kB\n",
            "/proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
            "/proc/device-tree/compatible": (
                "nvidia,p3737-0000+p3701-0005\0nvidia,p3701-0005\0nvidia,tegra234\0nvidia,tegra23x\0"
            ),
            "/etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.4 LTS"\n',
            "/sys/devices/system/cpu/online": "0-3,8\n",
        },
        {0: "schedutil", 1: "schedutil", 2: "schedutil", 3: "schedutil", 8: "performance"},
    )
    description = describe(transport)
    assert description.model == "NVIDIA Jetson AGX Orin Developer Kit"
    assert description.soc == "tegra234"
    assert description.cores == 5
    assert description.system == "Ubuntu 22.04.4 LTS"
    assert description.governor == "schedutil+performance"


def test_a_virtual_pc() -> None:
    transport = board(
        {"/proc/cpuinfo": PC, "/proc/meminfo": PC_MEMORY, "/etc/os-release": DEBIAN},
        machine="x86_64",
    )
    assert describe(transport) == Description(
        model="AMD EPYC",
        soc=None,
        cores=2,
        memory_bytes=24684084 * 1024,
        system="Debian GNU/Linux 12 (bookworm)",
        kernel="6.1.21-v8+",
        machine="x86_64",
        governor=None,
    )


def test_a_mac() -> None:
    answers = {
        "machdep.cpu.brand_string": b"Apple M1\n",
        "hw.ncpu": b"8\n",
        "hw.memsize": b"17179869184\n",
    }
    transport = FakeTransport(
        {},
        {"sysctl": lambda argv: Completed(argv, 0, answers[argv[2]], b"")},
        uname={"-s": "Darwin", "-r": "23.5.0", "-m": "arm64"},
    )
    assert describe(transport) == Description(
        model="Apple M1",
        soc=None,
        cores=8,
        memory_bytes=17179869184,
        system="Darwin",
        kernel="23.5.0",
        machine="arm64",
        governor=None,
    )


def test_a_board_that_tells_nothing() -> None:
    nothing = Description(None, None, None, None, None, None, None, None)
    assert describe(FakeTransport({}, uname={})) == nothing


def test_a_board_that_is_gone_is_no_board_that_tells_nothing() -> None:
    def gone(argv: tuple[str, ...]) -> Completed:
        raise DeviceLost("the link broke")

    with pytest.raises(DeviceLost):
        describe(FakeTransport(commands={"cat": gone}))


def test_this_machine() -> None:
    description = describe(LocalTransport())
    assert description.machine
    assert description.kernel
    assert description.cores is not None
    assert description.memory_bytes is not None
    assert description.memory_bytes > 2**27


# Texts


@pytest.mark.parametrize(
    ("cpuinfo", "device_tree", "model"),
    [
        (PI_5, None, "Raspberry Pi 5 Model B Rev 1.0"),
        (PI_5, "Another name\0", "Another name"),
        (PI_4_32_BIT, "\0", "Raspberry Pi 4 Model B Rev 1.2"),
        (ORIN, None, "ARMv8 Processor rev 1 (v8l)"),
        (PC, None, "AMD EPYC"),
        ("model name\t: \nmodel\t: 2\n", None, None),
        (None, None, None),
    ],
)
def test_the_most_telling_name_is_the_model(
    cpuinfo: str | None, device_tree: str | None, model: str | None
) -> None:
    assert parse_model(cpuinfo, device_tree) == model


@pytest.mark.parametrize(
    ("cpuinfo", "compatible", "soc"),
    [
        (PI_4, None, None),  # calls itself a BCM2835, which it is not
        (PI_4, "raspberrypi,4-model-b\0brcm,bcm2711\0", "bcm2711"),
        (PI_4_32_BIT, None, "BCM2711"),
        (None, "pine64,rockpro64-v2.1\0pine64,rockpro64\0rockchip,rk3399\0", "rk3399"),
        (None, "nvidia,tegra23x\0", None),
        (PC, None, None),
        (None, None, None),
    ],
)
def test_the_chip_is_named_where_it_can_be_believed(
    cpuinfo: str | None, compatible: str | None, soc: str | None
) -> None:
    assert parse_soc(cpuinfo, compatible) == soc


def test_processors_are_counted() -> None:
    assert [parse_processors(text) for text in (PI_4, ORIN, PC, "", None)] == [4, 12, 2, None, None]


@pytest.mark.parametrize("text", [None, "", "MemTotal: many kB", "MemFree: 1 kB", "MemTotal: 5 MB"])
def test_memory_that_is_not_told_is_not_guessed(text: str | None) -> None:
    assert parse_memory(text) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("PRETTY_NAME='Raspbian GNU/Linux 11'\n", "Raspbian GNU/Linux 11"),
        ("PRETTY_NAME=Buildroot\n", "Buildroot"),
        ('PRETTY_NAME="with \\"quotes\\""\n', 'with "quotes"'),
        ('PRETTY_NAME=""\n', None),
        ('PRETTY_NAME="broken\n', None),
        ("NAME=Debian\n", None),
        (None, None),
    ],
)
def test_systems_are_named_as_for_people(text: str | None, name: str | None) -> None:
    assert parse_os_release(text) == name


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("0", (0,)),
        ("0-3\n", (0, 1, 2, 3)),
        ("0,2-3,7", (0, 2, 3, 7)),
        ("", ()),
        ("\n", ()),
        ("none", ()),
        ("0-", ()),
        ("-1", ()),
        ("3-1", ()),
        (None, ()),
    ],
)
def test_sets_of_cores_are_read(text: str | None, cores: tuple[int, ...]) -> None:
    assert parse_cpu_list(text) == cores


@given(st.sets(st.integers(0, 300)))
def test_any_set_of_cores_comes_back(cores: set[int]) -> None:
    assert parse_cpu_list(",".join(map(str, cores))) == tuple(sorted(cores))


def test_governors_are_joined_where_they_differ() -> None:
    assert parse_governors("performance\nperformance\n") == "performance"
    assert parse_governors("schedutil\nondemand\nschedutil\n") == "schedutil+ondemand"
    assert parse_governors("") is None


@given(st.one_of(st.none(), st.text(alphabet="Pproces:\t \n\0,-0123456789kB=\"'MTmodel namHardw")))
def test_no_text_upsets_the_parsers(text: str | None) -> None:
    parse_model(text, text)
    parse_soc(text, text)
    parse_processors(text)
    parse_memory(f"MemTotal: {text}")
    parse_os_release(f"PRETTY_NAME={text}")
    parse_governors(text)
    parse_cpu_list(text)


# What is controlled


def test_what_is_not_controlled_is_said() -> None:
    pi = Description("Pi", "bcm2711", 4, 2**32, "Debian", "6.1", "aarch64", "ondemand")
    sentences = controls(pi, 3)
    assert sentences[0] == "The worker is pinned to core 3."
    assert "governor is ondemand; it is read and not changed" in sentences[1]
    assert "performance would hold it" in sentences[1]
    assert sentences[-1].startswith("No setting of the board is changed")
    assert "left to the scheduler" in controls(pi, None)[0]


def test_a_held_clock_and_an_unknown_one_read_differently() -> None:
    held = Description("Pi", None, 4, 2**32, "Debian", "6.1", "aarch64", "performance")
    unknown = Description("Apple M1", None, 8, 2**34, "Darwin", "23", "arm64", None)
    assert "may vary" not in controls(held, 0)[1]
    assert "cannot be read" in controls(unknown, 0)[1]
    assert "macOS cannot pin" in controls(unknown, 0)[0]


def test_what_is_set_is_said() -> None:
    pi = Description("Pi", "bcm2711", 4, 2**32, "Debian", "6.1", "aarch64", "ondemand")
    sentences = controls(pi, 3, Wanted("performance", True, "MAXN", True, 55.0))
    assert sentences[1] == "The frequency governor is set to performance."
    assert "set to MAXN with nvpmodel" in sentences[2]
    assert "below 55 °C" in sentences[-2]
    assert sentences[-1].startswith("What is set is put back afterwards")


# What changed


def test_differences_are_put_into_words() -> None:
    before = {"governor": "performance", "core": 3, "runtime": {"name": "litert", "version": "2.3"}}
    now = {"governor": "ondemand", "runtime": {"name": "litert", "version": "2.1"}, "threads": 1}
    assert mismatch(before, now) == [
        "governor: was 'performance', is 'ondemand'",
        "core: was 3, is not recorded now",
        "runtime.version: was '2.3', is '2.1'",
        "threads: was not recorded, is 1",
    ]


def test_nothing_and_not_recorded_are_told_apart() -> None:
    assert mismatch({"core": None}, {}) == ["core: was None, is not recorded now"]
    assert mismatch({"core": None}, {"core": 0}) == ["core: was None, is 0"]


def test_descriptions_can_be_compared() -> None:
    one = asdict(Description("Pi", None, 4, 2**32, "Debian", "6.1", "aarch64", "performance"))
    assert mismatch(one, one) == []
    assert mismatch(one, {**one, "kernel": "6.6"}) == ["kernel: was '6.1', is '6.6'"]


conditions = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
mappings = st.dictionaries(st.text(max_size=3), conditions, max_size=4)


@given(mappings)
def test_conditions_survive_json(values: dict[str, object]) -> None:
    assert mismatch(values, json.loads(json.dumps(values))) == []


@given(mappings, mappings)
def test_differences_are_seen_from_both_sides(
    one: dict[str, object], other: dict[str, object]
) -> None:
    assert len(mismatch(one, other)) == len(mismatch(other, one))
