from __future__ import annotations

import io
import json
import socket
import sys
from pathlib import Path

import pytest

from pydrm.cli.exits import Exit
from pydrm.cli.main import main
from pydrm.core.resource import Resource
from pydrm.errors import ClusterRefused, DiskFailed, Unavailable
from tests.admin.fake_manager import FakeManager, failing, minority
from tests.cli.served import served

R1 = {"id": "r1", "kind": "websocket", "url": "ws://127.0.0.1:9000/"}
R2 = {"id": "r2", "kind": "websocket", "url": "ws://127.0.0.1:9000/"}


def holding(*resources: dict[str, str]) -> FakeManager:
    manager = FakeManager()
    manager.kept = {flat["id"]: Resource.from_dict(flat) for flat in resources}
    return manager


@pytest.mark.parametrize("command", ["status", "resources", "nodes"])
def test_json_is_what_the_node_says_and_nothing_else(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    manager = holding(R1)

    with served(manager) as url:
        code = main([command, "--json", "--admin", url])

    output = capsys.readouterr()
    expected = {"status": manager.status(), "resources": manager.resources(), "nodes": manager.status()["nodes"]}
    assert code == Exit.OK
    assert json.loads(output.out) == expected[command]
    assert output.err == ""


def test_resources_are_a_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    with served(holding(R1, R2)) as url:
        assert main(["resources", "--admin", url]) == Exit.OK

    assert capsys.readouterr().out.splitlines() == [
        "ID  KIND       STATE  HOLDER  TOKEN  DETAIL",
        "r1  websocket  open   a       1",
        "r2  websocket  open   a       2",
    ]


def test_where_a_source_has_brought_any_the_table_says_which(capsys: pytest.CaptureFixture[str]) -> None:
    manager = holding(R1, R2)
    manager.brought_by["r2"] = "customers"

    with served(manager) as url:
        assert main(["resources", "--admin", url]) == Exit.OK

    assert capsys.readouterr().out.splitlines() == [
        "ID  KIND       STATE  HOLDER  TOKEN  SOURCE     DETAIL",
        "r1  websocket  open   a       1      -",
        "r2  websocket  open   a       2      customers",
    ]


def test_what_is_paused_shows_with_its_reason_until_it_is_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    with served(holding(R1, R2)) as url:
        assert main(["pause", "r1", "--reason", "moving house", "--admin", url]) == Exit.OK
        assert main(["resources", "--admin", url]) == Exit.OK
        assert main(["resume", "r1", "r2", "--admin", url]) == Exit.OK
        assert main(["pause", "r1", "nothing", "--admin", url]) == Exit.CONFLICT

    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "paused 1 resource",
        "ID  KIND       STATE   HOLDER  TOKEN  DETAIL",
        "r1  websocket  paused  a       1      moving house",
        "r2  websocket  open    a       2",
        "resumed 2 resources",
    ]
    assert "there is no resource 'nothing'; 1 were paused" in shown.err


def test_status_for_people_says_loudly_that_there_is_no_majority(capsys: pytest.CaptureFixture[str]) -> None:
    """Reading is allowed without one: what is read may be old, and the exit code is still 0."""
    with served(minority()) as url:
        assert main(["status", "--admin", url]) == Exit.OK

    assert "NO MAJORITY ANSWERS" in capsys.readouterr().out


def test_status_for_people_counts_the_messages_that_the_app_did_not_get(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the node that is asked; what others have lost they know themselves."""
    with served(FakeManager()) as url:
        assert main(["status", "--admin", url]) == Exit.OK

    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("messages")]
    assert line == (
        "messages   3 failed in a callback, 1 dropped because the lease was over, "
        "7 cut off by Redis before they were read, since a started"
    )


def test_status_for_people_shows_a_problem_if_there_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    manager = FakeManager()
    with served(manager) as url:
        assert main(["status", "--admin", url]) == Exit.OK
        assert "problem" not in capsys.readouterr().out
        manager.problem = "b cannot be reached"
        assert main(["status", "--admin", url]) == Exit.OK

    assert "problem    b cannot be reached" in capsys.readouterr().out.splitlines()


def test_the_environment_names_the_node_and_an_argument_wins_over_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(FakeManager()) as url:
        monkeypatch.setenv("PYDRM_ADMIN", url.removeprefix("http://"))
        assert main(["nodes"]) == Exit.OK
        monkeypatch.setenv("PYDRM_ADMIN", "http://127.0.0.1:1")
        assert main(["nodes", "--admin", url]) == Exit.OK


def test_resources_are_added_from_a_file_and_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manager = FakeManager()
    file = tmp_path / "resources.json"
    file.write_text(json.dumps([R1, R2]))

    with served(manager) as url:
        assert main(["add", str(file), "--admin", url, "--timeout", "4"]) == Exit.OK
        assert manager.kept == {"r1": Resource.from_dict(R1), "r2": Resource.from_dict(R2)}
        assert main(["remove", "r1", "r2", "--admin", url]) == Exit.OK

    assert manager.kept == {}
    assert manager.timeouts == [4.0, 10.0]
    assert capsys.readouterr().out == "added 2 resources\nremoved 2 resources\n"


def test_lines_are_read_from_stdin(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    manager = FakeManager()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{json.dumps(R1)}\n\n{json.dumps(R2)}\n".encode())))

    with served(manager) as url:
        assert main(["add", "-", "--admin", url, "--json"]) == Exit.OK

    assert list(manager.kept) == ["r1", "r2"]
    assert json.loads(capsys.readouterr().out) == {"added": 2}


@pytest.mark.parametrize(
    ("manager", "code"),
    [
        (minority(), Exit.NO_MAJORITY),
        (failing(Unavailable("gave up")), Exit.TIMEOUT),
        (failing(ClusterRefused("is being removed", reason="stale")), Exit.CONFLICT),
        (failing(DiskFailed("I/O error")), Exit.FAILURE),
    ],
)
def test_each_refusal_has_an_exit_code_of_its_own(
    manager: FakeManager, code: Exit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "r1.json"
    file.write_text(json.dumps(R1))

    with served(manager) as url:
        assert main(["add", str(file), "--admin", url]) == code

    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == f"pydrm add: {manager.failure}\n"


def test_removing_what_is_not_there_is_not_found(capsys: pytest.CaptureFixture[str]) -> None:
    with served(holding(R1)) as url:
        assert main(["remove", "r9", "--admin", url]) == Exit.CONFLICT

    assert "r9" in capsys.readouterr().err


def test_a_node_that_is_not_there_is_unreachable(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    assert main(["status", "--admin", f"http://127.0.0.1:{port}"]) == Exit.UNREACHABLE
    assert f"127.0.0.1:{port}" in capsys.readouterr().err


def test_a_node_that_hangs_is_a_timeout(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("pydrm.cli.client._GRACE_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"

        assert main(["status", "--admin", url, "--timeout", "0.1"]) == Exit.TIMEOUT


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ('[{"id": "r1"', "resources.json is not valid JSON"),
        ('{"id": "r1", "kind": "k"}\n{"id": }\n', "resources.json, line 2 is not valid JSON"),
        ('{"id": "r1", "kind": "k"}\n\n{"id": "r2"}\n', "resources.json, line 3: resource 'r2', field 'kind'"),
        ('[{"id": "r1", "kind": "k", "weight": -1}]', "resources.json: resource 'r1', field 'weight'"),
        ('"r1"', "resources.json: resource"),
    ],
)
def test_data_that_cannot_be_used_is_found_before_a_node_is_asked(
    content: str, where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "resources.json"
    file.write_text(content)

    assert main(["add", str(file), "--admin", "http://127.0.0.1:1"]) == Exit.INVALID
    assert where in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frobnicate"],
        ["remove"],
        ["status", "--timeout", "0"],
        ["status", "--timeout", "nan"],
        ["status", "--timeout", "soon"],
    ],
)
def test_a_command_that_cannot_be_understood_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert caught.value.code == Exit.USAGE


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "http://", "http://127.0.0.1:port"])
def test_an_admin_url_that_is_none_is_a_usage_error(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--admin", url]) == Exit.USAGE


def test_voters_are_changed_and_those_that_are_left_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """With a word about an even number of them."""
    manager = FakeManager()

    with served(manager) as url:
        assert main(["nodes", "add", "d", "--admin", url]) == Exit.OK
        assert "voters: a, b, c, d\n4 voters survive the loss of 1, as 3 do" in capsys.readouterr().out
        assert main(["nodes", "remove", "a", "--admin", url, "--json"]) == Exit.OK
        assert json.loads(capsys.readouterr().out) == {"voters": ["b", "c", "d"]}
        assert main(["nodes", "replace", "b", "--admin", url]) == Exit.OK
        assert "taking the old vote of b away" in capsys.readouterr().err


def test_a_voter_that_cannot_be_changed_is_said_to_be_so(capsys: pytest.CaptureFixture[str]) -> None:
    manager = FakeManager()
    manager.voters.failure = ClusterRefused("d is not linked with a: start it", reason="not-found")

    with served(manager) as url:
        assert main(["nodes", "add", "d", "--admin", url]) == Exit.CONFLICT

    assert "d is not linked with a: start it" in capsys.readouterr().err


# --- send ------------------------------------------------------------------------------------------------------------


class _Stdin:
    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)


@pytest.mark.parametrize(
    ("arguments", "stdin", "sent"),
    [
        (["hällo"], b"", "hällo"),
        (["hällo", "--binary"], b"", "hällo".encode()),
        (["-"], b"line\n", "line\n"),
        (["-", "--binary"], b"\x00\xff", b"\x00\xff"),
    ],
)
def test_send_says_who_sent_it(
    arguments: list[str],
    stdin: bytes,
    sent: str | bytes,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", _Stdin(stdin))
    manager = holding(R1)
    with served(manager) as url:
        assert main(["send", "r1", *arguments, "--admin", url]) == Exit.OK

    assert manager.sent == [("r1", sent)]
    assert capsys.readouterr().out == "sent by b under token 7\n"


def test_what_is_not_sent_has_an_exit_code_of_its_own() -> None:
    """Whoever repeats it after 5 sends it once; after 3, 4 or 6 nobody knows."""
    unsent = Unavailable("c cannot be reached; nothing was sent")
    unsent.unsent = True
    for error, code in [
        (unsent, Exit.CONFLICT),
        (Unavailable("whether it arrived is unknown"), Exit.TIMEOUT),
        (ClusterRefused("nobody holds it", reason="not-held"), Exit.CONFLICT),
    ]:
        with served(failing(error)) as url:
            assert main(["send", "r1", "x", "--admin", url]) == code


def test_stdin_that_is_no_text_is_not_sent_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", _Stdin(b"\xff"))
    manager = holding(R1)
    with served(manager) as url:
        assert main(["send", "r1", "-", "--admin", url]) == Exit.INVALID

    assert manager.sent == []
