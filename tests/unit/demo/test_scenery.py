"""Where the story plays: two regions below one folder, and commands in processes of their own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "connectors"))

from held_port import held_port

from refloat.demo.scenery import Scenery, example_folder, free_ports
from refloat.errors import RefloatError
from refloat.manifest.parse import parse


@pytest.fixture
def scenery(tmp_path: Path):
    made = Scenery.under(tmp_path / "demo")
    yield made
    made.end()


def sleeper(scenery: Scenery) -> subprocess.Popen[bytes]:
    """A process that ends only when it is told to."""
    program = "import time; print('awake', flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as out:
        out.readline()
    scenery.processes.append(process)
    return process


def test_the_regions_are_apart_and_the_key_is_in_neither(scenery: Scenery) -> None:
    assert scenery.ports["eu"] != scenery.ports["us"]
    assert scenery.vault("eu").parent != scenery.vault("us").parent
    for region in ("eu", "us"):
        assert not scenery.key_file.is_relative_to(scenery.root / region)
        assert scenery.pipeline(region).is_relative_to(scenery.root / region)


def test_a_story_is_never_told_over_another(tmp_path: Path) -> None:
    Scenery.under(tmp_path)
    with pytest.raises(FileExistsError):
        Scenery.under(tmp_path)


def test_the_manifest_is_the_examples_own_with_this_tellings_places(scenery: Scenery) -> None:
    scenery.write_manifest()
    text = scenery.manifest.read_text()
    assert "/srv/pydocs" not in text and "8101" not in text and "8102" not in text
    manifest, example = (
        parse(scenery.manifest.read_bytes()),
        parse((example_folder() / "refloat.yaml").read_bytes()),
    )
    assert manifest.components == example.components
    assert manifest.groups == example.groups
    assert manifest.verify == example.verify
    for region in ("eu", "us"):
        assert manifest.regions[region].vault == str(scenery.vault(region))
        assert manifest.regions[region].vars == {
            "root": str(scenery.pipeline(region)),
            "port": str(scenery.ports[region]),
        }


def test_a_command_is_given_nothing_of_the_callers_own(
    scenery: Scenery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFLOAT_PASSPHRASE", "the caller's secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the caller's key")
    environment = scenery.environment()
    assert "the caller's" not in str(environment)
    assert environment["HOME"] == str(scenery.home)
    assert environment["REFLOAT_KEY_FILE"] == str(scenery.key_file)
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


def test_a_command_is_run_for_real_and_its_document_read(scenery: Scenery) -> None:
    manifest = str(scenery.root / "refloat.yaml")
    where = ("--region", f"eu={scenery.vault('eu')}", "--component", "docs=files:/srv/docs")
    code, document = scenery.refloat("-f", manifest, "init", "--pipeline", "small", *where)
    assert (code, document["schema"], document["pipeline"]) == (0, 1, "small")


def test_a_command_that_ends_otherwise_than_the_story_needs_is_an_error(scenery: Scenery) -> None:
    manifest = str(scenery.root / "none.yaml")
    with pytest.raises(RefloatError, match=r"none\.yaml status` ended with 2: there is no manifest here"):
        scenery.refloat("-f", manifest, "status")
    code, document = scenery.refloat("-f", manifest, "status", accept=(2,))
    assert (code, document["error"]["code"]) == (2, "manifest")


def test_a_command_that_prints_no_json_is_told_in_its_own_words(scenery: Scenery) -> None:
    with pytest.raises(RefloatError, match="it printed no JSON: _refloat"):
        scenery.refloat("--show-completion", "bash", accept=(1,))


def test_a_program_that_fails_is_told_with_its_own_words(scenery: Scenery) -> None:
    with pytest.raises(RefloatError, match=r"(?s)`pydocs_assistant nonsense` failed: .*nonsense"):
        scenery.program("nonsense")


def test_a_folder_is_set_aside_and_put_back_as_it_was(scenery: Scenery) -> None:
    index = scenery.pipeline("eu") / "index"
    index.mkdir(parents=True)
    (index / "a").write_text("first")
    scenery.set_aside("index")
    (index / "a").write_text("rebuilt")
    (index / "b").write_text("new")
    scenery.put_back("index")
    assert {path.name: path.read_text() for path in index.iterdir()} == {"a": "first"}
    assert list((scenery.root / "client").iterdir()) == []


def test_the_disaster_leaves_the_other_region_the_key_and_an_empty_home(scenery: Scenery) -> None:
    endpoint, home = sleeper(scenery), scenery.home
    scenery.key_file.write_text("the key")
    scenery.vault("us").mkdir()
    scenery.destroy("eu", endpoint)
    assert endpoint.returncode == -9
    assert sorted(path.name for path in scenery.root.iterdir()) == ["client", "empty_home", "key", "us"]
    assert scenery.home != home and list(scenery.home.iterdir()) == []
    assert scenery.key_file.read_text() == "the key"


def test_every_process_ends_with_the_story(scenery: Scenery) -> None:
    processes = [sleeper(scenery), sleeper(scenery)]
    processes[0].kill()
    processes[0].wait()
    scenery.end()
    assert [process.returncode for process in processes] == [-9, -15]


def test_what_refloat_started_is_found_by_its_pid_file_and_ended(scenery: Scenery) -> None:
    assert scenery.recovered_process() is None
    scenery.stop_recovered()  # nothing runs, and that is no error
    process = sleeper(scenery)
    scenery.pipeline("us").mkdir()
    (scenery.pipeline("us") / "assistant.pid.json").write_text(json.dumps({"pid": process.pid}))
    assert scenery.recovered_process() == process.pid
    scenery.stop_recovered()
    assert process.wait(timeout=60) == -15
    scenery.stop_recovered()  # nor is one that is gone


def test_an_endpoint_that_never_comes_up_is_an_error_in_time(
    scenery: Scenery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refloat.demo.scenery.ENDPOINT_SECONDS_MAX", 0.2)
    with (
        held_port() as nobodys,
        pytest.raises(RefloatError, match=r"the endpoint in eu was not ready within 0\.2 s"),
    ):
        replace(scenery, ports={**scenery.ports, "eu": nobodys}).wait_ready("eu")


def test_an_endpoint_that_refuses_a_question_is_an_error(scenery: Scenery) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        serving = Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        asked = replace(scenery, ports={**scenery.ports, "eu": server.server_port})
        with pytest.raises(RefloatError, match="the endpoint in eu answered 501"):
            asked.ask("eu", "how do I open a file?")
        server.shutdown()
        serving.join()


def test_free_ports_can_be_listened_on_and_are_given_to_nobody_else() -> None:
    ports = free_ports(4)
    assert len(set(ports)) == 4
    assert all(listens(port) for port in ports)
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert max(ports) < lowest


def test_a_port_that_somebody_has_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with held_port() as taken:
        monkeypatch.setattr("refloat.demo.scenery.PORTS", [taken] * 16)
        with pytest.raises(RefloatError, match="no free port"):
            free_ports(1)


def listens(port: int) -> bool:
    with socket.socket() as listener, suppress(OSError):
        listener.bind(("127.0.0.1", port))
        listener.listen()
        return True
    return False
