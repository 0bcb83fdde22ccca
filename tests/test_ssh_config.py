"""~/.ssh/config is read as OpenSSH reads it: `ssh -G` is asked wherever it can tell."""

from __future__ import annotations

import base64
import contextlib
import getpass
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boardfit.devices.errors import InputError
from boardfit.devices.known_hosts import (
    fingerprint,
    host_name,
    judge,
    matches,
    parse_known_hosts,
)
from boardfit.devices.ssh_config import Hop, Surroundings, find_route

from .conftest import missing


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    return tmp_path / "home"


def around(home: Path, text: str, **environment: str) -> Surroundings:
    config = home / ".ssh" / "config"
    config.write_text(text)
    return Surroundings(
        home=home,
        user=getpass.getuser(),
        host=socket.gethostname(),
        files=(config,),
        environment=environment,
        run=lambda command: subprocess.run(["/bin/sh", "-c", command]).returncode == 0,
    )


def route(home: Path, text: str, name: str = "pi") -> tuple[Hop, ...]:
    return find_route(name, around(home, text))


def hop(home: Path, text: str, name: str = "pi") -> Hop:
    (found,) = route(home, text, name)
    return found


def as_openssh_has_it(config: Path, name: str) -> dict[str, list[str]]:
    if shutil.which("ssh") is None:
        missing("ssh", "install openssh-client (`apt-get install openssh-client`)")
    done = subprocess.run(
        ["ssh", "-G", "-F", str(config), name], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        keyword, _, value = line.partition(" ")
        found.setdefault(keyword, []).append(value)
    return found


SAME = {  # one configuration each, looked at for the host `pi`
    "nothing": "",
    "the first value counts": "Host pi\n User a\nHost *\n User b\n Port 2200\n",
    "before any Host": "User zero\nHost pi\n User a\n",
    "equals and quotes": 'Host "pi"\n  User="with space"\n  Port = 2200\n\tHostName=10.0.0.7\n',
    "comments": "# Host *\nHost pi # the board\n User a # not b\n Port 2200#\n".replace(
        "0#", "0 #"
    ),
    "small and large letters": "HOST pi\n uSER a\n hostNAME Board.Local\n",
    "patterns": "Host p?\n User a\nHost *i !pi\n Port 1\nHost !pa *\n Port 2\n",
    "no regular expressions": "Host [p]i\n User a\nHost p.*\n User b\n",
    "tokens in names": "Host pi\n HostName %h.lab.example\n",
    "several keys": "Host pi\n IdentityFile ~/.ssh/one\n IdentityFile /two\nHost *\n"
    " IdentityFile ~/.ssh/%h-%r-%u\n IdentitiesOnly yes\n",
    "known hosts": "Host pi\n UserKnownHostsFile ~/a ~/b\n GlobalKnownHostsFile /c\n",
    "seconds": "Host pi\n ServerAliveInterval 7\n ServerAliveCountMax 2\n ConnectTimeout 9\n",
    "a proxy": "Host pi\n ProxyCommand nc -X 5 %h %p # all of it\n ProxyJump never\n",
    "no proxy": "Host pi\n ProxyJump none\nHost *\n ProxyJump bastion\n",
    "a jump goes before a command": "Host pi\n ProxyJump bastion\n ProxyCommand nc %h %p\n",
    "conditions": "Match host pi user nobody\n Port 1\nMatch originalhost pi\n Port 3\n",
    "all": "Match all\n Port 5\n",
    "by the user here": f"Match localuser {getpass.getuser()} host p*,x\n Port 6\n",
    "not": "Match !host pi\n Port 7\nMatch !originalhost other host *\n Port 8\n",
    "by a command": 'Match host other exec false\n Port 1\nMatch exec "test %n = pi"\n Port 4\n',
    "at last": "Match final host 10.0.0.*\n Port 9\nHost pi\n HostName 10.0.0.7\n",
    "by the name that was found": "Host pi\n HostName 10.0.0.7\nMatch host 10.0.0.7\n Port 9\n",
    "another name for the key": "Host pi\n HostKeyAlias board-7\n",
    "unknown words": "IgnoreUnknown Colour\nHost pi\n Colour blue\n User a\n ForwardAgent no\n",
    "escapes": 'Host pi\n User "a \\"b\\" c"\n IdentityFile "/with space/k"\n',
}


def compare(found: Hop, expected: dict[str, list[str]], home: Path) -> None:
    def paths(values: list[str]) -> list[str]:
        # `ssh` has the home folder of the user's account, whatever HOME says.
        return [v.replace("~/", f"{home}/") for v in values]

    assert found.host == expected["hostname"][0]
    assert found.port == int(expected["port"][0])
    assert found.user == expected["user"][0]
    assert found.identities_only == (expected["identitiesonly"] == ["yes"])
    assert found.host_key_name == expected.get("hostkeyalias", [None])[0]
    command = expected.get("proxycommand", [None])[0]  # as it was written
    assert found.proxy_command == (
        command and command.replace("%h", found.host).replace("%p", str(found.port))
    )
    if interval := int(expected["serveraliveinterval"][0]):
        assert found.alive_interval == interval
        assert found.alive_count == int(expected["serveralivecountmax"][0])
    if expected["connecttimeout"] != ["none"]:
        assert found.connect_timeout == int(expected["connecttimeout"][0])
    known = expected["userknownhostsfile"][0].split()
    known += expected["globalknownhostsfile"][0].split()
    account = str(Path("~" + getpass.getuser()).expanduser())
    assert [str(p) for p in found.known_hosts] == [
        p.replace(account, str(home), 1) for p in paths(known)
    ]


@pytest.mark.parametrize("text", SAME.values(), ids=SAME.keys())
def test_a_configuration_means_what_it_means_to_openssh(home: Path, text: str) -> None:
    *jumps, found = route(home, text)
    expected = as_openssh_has_it(home / ".ssh" / "config", "pi")
    compare(found, expected, home)
    assert bool(jumps) == (expected.get("proxyjump", ["none"]) != ["none"])
    if "identityfile" in text.lower():
        tokens = {"%h": found.host, "%r": found.user, "%u": getpass.getuser()}
        wanted = expected["identityfile"]
        for token, value in tokens.items():
            wanted = [path.replace(token, value) for path in wanted]
        assert [str(p) for p in found.identity_files] == [
            path.replace("~", str(home), 1) for path in wanted
        ]


blocks = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "Host pi",
                "Host *",
                "Host p* !pi",
                "Host !other *",
                "Host other",
                "Match host pi",
                "Match host 10.0.0.7",
                "Match originalhost pi user bob",
                "Match !user alice",
                "Match final all",
                "Match final host 10.*",
                "Match all",
            ]
        ),
        st.lists(
            st.sampled_from(
                [
                    "User alice",
                    "User bob",
                    "HostName 10.0.0.7",
                    "HostName %h.lab",
                    "Port 2200",
                    "Port=23",
                    "ProxyCommand nc %h %p",
                    "ProxyJump none",
                    "ConnectTimeout 3",
                    "HostKeyAlias x",
                ]
            ),
            max_size=3,
        ),
    ),
    max_size=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(blocks)
def test_all_blocks_together_mean_what_they_mean_to_openssh(
    home: Path, parts: list[tuple[str, list[str]]]
) -> None:
    text = "".join(f"{head}\n" + "".join(f"  {line}\n" for line in body) for head, body in parts)
    *_, found = route(home, text)
    compare(found, as_openssh_has_it(home / ".ssh" / "config", "pi"), home)


# Include


def included(home: Path, main: str, **files: str) -> tuple[Hop, dict[str, list[str]]]:
    """What we make of it, and what OpenSSH does; it takes `~/.ssh` for the account's own."""
    for name, text in files.items():
        (home / ".ssh" / name).write_text(text.replace("DIR", str(home / ".ssh")))
    found = hop(home, main.replace("DIR", str(home / ".ssh")))
    return found, as_openssh_has_it(home / ".ssh" / "config", "pi")


@pytest.mark.parametrize(
    ("main", "files"),
    [
        ("Include DIR/more\n", {"more": "Host pi\n User a\n"}),
        ("Include DIR/part-*\nHost *\n Port 5\n", {"part-b": "Port 2\n", "part-a": "Port 1\n"}),
        ("Include DIR/one DIR/two\n", {"one": "User a\n", "two": "User b\nPort 2\n"}),
        ("Include DIR/nowhere\nUser a\n", {}),
        (
            "Host other\n Include DIR/more\nUser z\n",
            {"more": "Host pi\n User a\nHost *\n User b\n"},
        ),
        ("Host pi\n Include DIR/more\n Port 5\n", {"more": "User a\nHost other\n User b\n"}),
        (
            "Host pi\n Include DIR/more\n Port 5\n",
            {"more": "Host other\n User b\nHost p*\n User c\n"},
        ),
        ("Match host other\n Include DIR/more\n", {"more": "Match all\n User b\n"}),
        ("Include DIR/one\n", {"one": "Include DIR/two\nUser a\n", "two": "Host pi\n User b\n"}),
        ('Include "DIR/with space"\n', {"with space": "User a\n"}),
    ],
)
def test_included_files_hold_where_openssh_has_them_hold(
    home: Path, main: str, files: dict[str, str]
) -> None:
    found, expected = included(home, main, **files)
    compare(found, expected, home)


def test_included_files_are_looked_for_beside_the_configuration(home: Path) -> None:
    (home / ".ssh" / "conf.d").mkdir()
    (home / ".ssh" / "conf.d" / "lab").write_text("Host pi\n User relative\n")
    (home / "more").write_text("Port 2200\n")
    found = hop(home, "Include conf.d/*\nInclude ~/more\n")
    assert (found.user, found.port) == ("relative", 2200)


def test_files_that_include_themselves_are_refused(home: Path) -> None:
    with pytest.raises(InputError, match="more than 16 Include lie in each other"):
        route(home, f"Include {home}/.ssh/config\n")


def test_files_without_end_are_refused(home: Path) -> None:
    (home / ".ssh" / "more").write_text("Include more2 more2 more2 more2 more2 more2\n" * 100)
    (home / ".ssh" / "more2").write_text("User a\n")
    with pytest.raises(InputError, match="more than 500 files"):
        route(home, "Include more\n")


# Jumps


def names(hops: tuple[Hop, ...]) -> list[str]:
    return [f"{h.user}@{h.host}:{h.port}" for h in hops]


CHAIN = """
Host pi
  HostName 10.0.0.7
  ProxyJump gate
Host gate
  HostName gate.example
  User keeper
  ProxyJump ops@outer:2222
Host *
  User me
"""


def test_jumps_are_chained(home: Path) -> None:
    expected = ["ops@outer:2222", "keeper@gate.example:22", "me@10.0.0.7:22"]
    assert names(route(home, CHAIN)) == expected


def test_several_jumps_stand_in_one_line(home: Path) -> None:
    text = CHAIN.replace("ProxyJump gate", "ProxyJump a@[fe80::1]:23,ssh://gate:24,%r@last")
    expected = ["a@fe80::1:23", "keeper@gate.example:24", "me@last:22", "me@10.0.0.7:22"]
    # A jump that stands before others is the way to them, whatever the files say of these.
    assert names(route(home, text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "ProxyJump pi\n",
        "Host pi\n ProxyJump a\nHost a\n ProxyJump b\nHost b\n ProxyJump pi\n",
        "Host *\n ProxyJump gate\n",
    ],
)
def test_jumps_that_lead_in_a_circle_are_named(home: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"in a circle: .*; write `ProxyJump none` for"):
        route(home, text)


# What boards.toml says, and what nobody says


def test_what_is_given_goes_before_the_files(home: Path) -> None:
    text = "Host pi\n User a\n Port 1\n HostName h\n IdentityFile ~/k\n"
    (found,) = find_route("pi", around(home, text), user="b", port=2, identity_file=Path("~/100%"))
    assert (found.user, found.port, found.host) == ("b", 2, "h")
    assert found.identity_files == (home / "100%", home / "k")
    assert found.identities_only


def test_without_a_word_it_is_as_with_ssh(home: Path) -> None:
    (found,) = find_route("10.0.0.7", around(home, "", SSH_AUTH_SOCK="/agent"))
    kinds = ("id_rsa", "id_ecdsa", "id_ed25519")
    assert found.identity_files == tuple(home / ".ssh" / kind for kind in kinds)
    assert found.known_hosts[0] == home / ".ssh" / "known_hosts"
    assert found.agent == "/agent"
    assert found.alive_interval > 0


@pytest.mark.parametrize(
    ("line", "agent"),
    [
        ("IdentityAgent none", None),
        ("IdentityAgent ~/sock", "{home}/sock"),
        ("IdentityAgent $OTHER", "/other"),
        ("IdentityAgent ${OTHER}", "/other"),
        ("IdentityAgent SSH_AUTH_SOCK", "/agent"),
    ],
)
def test_the_agent_can_be_chosen(home: Path, line: str, agent: str | None) -> None:
    surroundings = around(home, line, SSH_AUTH_SOCK="/agent", OTHER="/other")
    (found,) = find_route("pi", surroundings)
    assert found.agent == (agent and agent.format(home=home))


# Mistakes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Port high\n", "port 'high' of 'pi' in ~/.ssh/config is no number from 0 to 65535; ch"),
        ("Port 99999\n", "port '99999'"),
        ("ConnectTimeout -1\n", "connecttimeout '-1'"),
        ('User "a\n', r"config:1: a quotation mark is missing; add it"),
        ("ProxyCommand x %Z\n", "^'%Z' in ~/.ssh/config is not known to boardfit; write out"),
        ("Match tagged x\n", r"config:1: boardfit does not know the condition 'tagged' of Match"),
        ("Match host\n", r"config:1: Match host without a value; add one"),
        ("ProxyJump a:b:c@:@\n", "is not .*host.*port"),
        ("#" * (1024 * 1024 + 1), "is larger than 1048576 bytes"),
    ],
)
def test_mistakes_are_named_with_their_fix(home: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        route(home, text)


def test_a_configuration_that_is_a_folder_is_named(home: Path) -> None:
    (home / ".ssh" / "folder").mkdir()
    with pytest.raises(InputError, match="folder: cannot be read: Is a directory"):
        route(home, "Include folder\n")


def test_a_missing_configuration_is_none(home: Path) -> None:
    surroundings = around(home, "")
    (home / ".ssh" / "config").unlink()
    assert find_route("pi", surroundings)[0].host == "pi"


words = st.sampled_from(
    [
        *"!\"'\\#=%*,~ \n\t",
        "Host",
        "Match",
        "pi",
        "%h",
        "ProxyJump",
        "exec",
        "Include",
        "Port",
        "1",
        "host",
        "final",
        "ProxyCommand",
        "${X}",
        "none",
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.lists(words, max_size=30).map("".join))
def test_whatever_a_file_holds_it_is_a_route_or_an_input_error(home: Path, text: str) -> None:
    surroundings = around(home, text)
    quiet = Surroundings(home, "me", "here", surroundings.files)  # runs no commands
    with contextlib.suppress(InputError):
        assert find_route("pi", quiet)[-1].alias == "pi"


# known_hosts

ED = "AAAAC3NzaC1lZDI1NTE5AAAAIBmf0vVnW5jDJk3lZNpPeYQWkfm9OJ0zY0jZmLqkU6Gk"
OTHER = "AAAAC3NzaC1lZDI1NTE5AAAAIHkYmf0vVnW5jDJk3lZNpPeYQWkfm9OJ0zY0jZmLqkU6"


def verdict(text: str, host: str = "pi", port: int = 22, key: str = ED) -> str:
    return judge(parse_known_hosts(text, "known_hosts"), host, port, base64.b64decode(key))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "unknown"),
        (f"pi ssh-ed25519 {ED}", "known"),
        (f"PI,10.0.0.7 ssh-ed25519 {ED} a comment", "known"),
        (f"other ssh-ed25519 {ED}", "unknown"),
        (f"pi ssh-ed25519 {OTHER}", "changed"),
        (f"pi ssh-ed25519 {OTHER}\npi ssh-ed25519 {ED}", "known"),
        (f"*,!pi ssh-ed25519 {ED}", "unknown"),
        (f"p? ssh-ed25519 {ED}", "known"),
        (f"[p]i ssh-ed25519 {ED}", "unknown"),
        (f"# pi ssh-ed25519 {ED}", "unknown"),
        (f"@revoked * ssh-ed25519 {ED}\npi ssh-ed25519 {ED}", "revoked"),
        (f"@revoked * ssh-ed25519 {OTHER}\npi ssh-ed25519 {ED}", "known"),
        (f"@cert-authority * ssh-ed25519 {ED}", "unknown"),
        (f"@strange pi ssh-ed25519 {ED}", "unknown"),
        ("pi ssh-ed25519", "unknown"),
        ("pi ssh-ed25519 !!!", "unknown"),
        ("|1|bad ssh-ed25519 AAAA", "unknown"),
        ("|1|###|### ssh-ed25519 AAAA", "unknown"),
    ],
)
def test_what_is_known_of_a_key(text: str, expected: str) -> None:
    assert verdict(text) == expected


def test_another_port_is_part_of_the_name() -> None:
    assert host_name("Pi", 22) == "pi"
    assert host_name("Pi", 2222) == "[pi]:2222"
    assert verdict(f"[pi]:2222 ssh-ed25519 {ED}", port=2222) == "known"
    assert verdict(f"[pi]:2222 ssh-ed25519 {ED}", port=2223) == "unknown"
    assert verdict(f"[pi]:2222 ssh-ed25519 {ED}") == "unknown"
    # The host's own key will do, and another one says nothing of what answers at that port.
    assert verdict(f"pi ssh-ed25519 {ED}", port=2222) == "known"
    assert verdict(f"pi ssh-ed25519 {OTHER}", port=2222) == "unknown"
    assert verdict(f"@revoked pi ssh-ed25519 {ED}", port=2222) == "revoked"


def test_hashed_names_are_found(tmp_path: Path) -> None:
    if shutil.which("ssh-keygen") is None:
        missing("ssh-keygen", "install openssh-client (`apt-get install openssh-client`)")
    file = tmp_path / "known_hosts"
    file.write_text(f"[pi.local]:2222,10.0.0.7 ssh-ed25519 {ED}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True, capture_output=True)
    text = file.read_text()
    assert "pi.local" not in text
    assert verdict(text, "pi.local", 2222) == "known"
    assert verdict(text, "10.0.0.7") == "known"
    assert verdict(text, "pi.local") == "unknown"


def test_a_fingerprint_is_as_people_compare_it(tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text(f"ssh-ed25519 {ED}\n")
    done = subprocess.run(
        ["ssh-keygen", "-lf", str(tmp_path / "key.pub")], capture_output=True, text=True
    )
    assert fingerprint(base64.b64decode(ED)) in done.stdout


def test_patterns_have_two_special_letters() -> None:
    assert matches("*.lab.??", "pi.lab.de")
    assert not matches("*.lab.??", "pi.lab.d")
    assert matches("a[b]*", "a[b]c")
    assert not matches("a[b]*", "abc")
