"""The catalogue of data sets and its downloads, from a server on this machine."""

import hashlib
import http.server
import io
import random
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from course_utils.data import catalogue, fetching
from course_utils.data.nuclei import find_nuclei
from course_utils.errors import CourseError

DRAWN = ("scenes", "cells", "drawn_people", "drawn_pets")


@pytest.mark.parametrize("name", list(catalogue.entries()))
def test_every_set_states_what_a_teacher_must_know(name):
    facts = catalogue.entry(name)
    for key in ("title", "homepage", "licence", "citation", "classes", "void", "split", "traps"):
        assert facts[key], f"{name} lacks {key}"
    if name not in DRAWN:
        assert facts["layout"]
        assert facts["places"]
        assert facts["markers"]
        assert facts.get("files") or facts.get("how")
    for file in facts.get("files", []):
        has_sum = "md5" in file or "sha256" in file
        assert has_sum == ("checksum_from" in file), f"{name}: say where the checksum is from"


class Server(http.server.BaseHTTPRequestHandler):
    """Serves ``files``; knows ranges; cuts the connection after ``cut`` bytes if asked."""

    files: dict[str, bytes]
    cut: int | None = None
    ranges: list[str | None]

    def do_GET(self):
        body = self.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        asked = self.headers.get("Range")
        self.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body) - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        rest = body[start:]
        self.wfile.write(rest if self.cut is None else rest[: self.cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    handler = type("Handler", (Server,), {"files": {}, "ranges": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        handler.address = f"http://127.0.0.1:{running.server_port}"
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield handler
        running.shutdown()


def tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as bundle:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            bundle.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name, content in members.items():
            bundle.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def toy(server, tmp_path, monkeypatch):
    """A data set ``toy`` whose one archive the server has; returns its catalogue entry."""
    content = tar(
        {"toy/codes.txt": b"a\nb\n", "toy/images/1.png": random.Random(0).randbytes(300_000)}
    )
    server.files["/toy.tgz"] = content
    facts = {
        "title": "Toy",
        "homepage": "https://example.org/toy",
        "licence": "CC0",
        "citation": "Toy et al., 2020.",
        "places": ["toy"],
        "markers": ["codes.txt"],
        "files": [
            {
                "url": f"{server.address}/toy.tgz",
                "md5": hashlib.md5(content).hexdigest(),
                "strip": 1,
            }
        ],
    }
    monkeypatch.setattr(catalogue, "entries", lambda: {"toy": facts})
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    return facts


def left_behind(tmp_path) -> list[str]:
    return sorted(
        str(path.relative_to(tmp_path / "data"))
        for path in (tmp_path / "data").rglob("*")
        if path.is_file()
    )


def test_fetch_puts_the_set_where_find_finds_it(toy, tmp_path):
    folder = fetching.fetch("toy")
    assert folder == tmp_path / "data" / "toy" == catalogue.find("toy")
    assert left_behind(tmp_path) == ["toy/codes.txt", "toy/images/1.png"]


def test_fetch_again_downloads_nothing(toy, server):
    fetching.fetch("toy")
    server.files.clear()
    fetching.fetch("toy")


def test_wrong_checksum_leaves_nothing(toy, tmp_path):
    toy["files"][0]["md5"] = "0" * 32
    with pytest.raises(CourseError, match="checksum is not the one"):
        fetching.fetch("toy")
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("content", [b"<html>moved</html>", b""])
def test_corrupt_archive_leaves_nothing_half_written(toy, server, tmp_path, content):
    server.files["/toy.tgz"] = content
    toy["files"][0]["md5"] = hashlib.md5(content).hexdigest()
    with pytest.raises(CourseError, match="could not be unpacked"):
        fetching.fetch("toy")
    assert left_behind(tmp_path) == []


def test_archive_cut_in_the_middle_leaves_nothing_half_written(toy, server, tmp_path):
    content = server.files["/toy.tgz"][:-200]
    server.files["/toy.tgz"] = content
    toy["files"][0]["md5"] = hashlib.md5(content).hexdigest()
    with pytest.raises(CourseError, match="could not be unpacked"):
        fetching.fetch("toy")
    assert left_behind(tmp_path) == []


def test_a_download_cut_short_is_resumed(toy, server):
    server.cut = 200_000
    with pytest.raises(CourseError, match="resumes"):
        fetching.fetch("toy")
    server.cut = None
    fetching.fetch("toy")
    first, second = server.ranges
    assert first is None
    assert int(second.removeprefix("bytes=").rstrip("-")) > 100_000


def test_offline_says_what_to_do_in_one_line(toy, tmp_path):
    toy["files"][0]["url"] = "http://127.0.0.1:9/toy.tgz"
    with pytest.raises(CourseError, match=r"Offline\? .*unpack it into .*COURSE_DATA") as caught:
        fetching.fetch("toy")
    assert "\n" not in str(caught.value)
    assert left_behind(tmp_path) == []


def test_a_dead_link_is_an_error_of_one_line(toy, server):
    server.files.clear()
    with pytest.raises(CourseError, match="cannot be reached"):
        fetching.fetch("toy")


def test_without_a_published_checksum_the_first_download_is_pinned(toy, server, tmp_path, capsys):
    del toy["files"][0]["md5"]
    folder = fetching.fetch("toy")
    assert "publishes no checksum" in capsys.readouterr().out
    folder.rename(tmp_path / "elsewhere")
    server.files["/toy.tgz"] = tar({"toy/codes.txt": b"changed"})
    with pytest.raises(CourseError, match="the first download"):
        fetching.fetch("toy")


def test_nuclei_unpacked_without_a_folder_of_their_own_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert find_nuclei() is None
    (tmp_path / "dsb2018" / "a1b2" / "masks").mkdir(parents=True)
    assert find_nuclei() == tmp_path / "dsb2018" == catalogue.find("nuclei")


def test_a_bad_first_download_is_not_what_later_ones_are_held_to(toy, server):
    del toy["files"][0]["md5"]
    good = server.files["/toy.tgz"]
    server.files["/toy.tgz"] = b"<html>sign in to this network</html>"
    with pytest.raises(CourseError, match="could not be unpacked"):
        fetching.fetch("toy")
    server.files["/toy.tgz"] = good
    assert fetching.fetch("toy") == catalogue.find("toy")


def test_a_full_disk_keeps_the_download(toy, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching, "unpack", full)
    with pytest.raises(CourseError, match=r"No space left.*the download is kept"):
        fetching.fetch("toy")
    assert [Path(name).suffix for name in left_behind(tmp_path)] == [".tgz"]


def test_an_archive_that_climbs_out_is_refused(toy, server, tmp_path):
    content = tar({"toy/codes.txt": b"a", "toy/../../../evil.txt": b"evil"})
    server.files["/toy.tgz"] = content
    toy["files"][0]["md5"] = hashlib.md5(content).hexdigest()
    with pytest.raises(CourseError, match="outside of its folder"):
        fetching.fetch("toy")
    assert not list(tmp_path.rglob("evil.txt"))
    assert left_behind(tmp_path) == []


def test_only_the_named_folder_of_a_zip_is_kept(tmp_path):
    archive = tmp_path / "tutorial.zip"
    archive.write_bytes(
        zipped({"T-master/CamVid/train/a.png": b"a", "T-master/Models/big.bin": b"b"})
    )
    fetching.unpack(archive, tmp_path / "out", {"strip": 2, "only": "CamVid/"})
    assert [p.name for p in (tmp_path / "out").rglob("*") if p.is_file()] == ["a.png"]


def test_a_set_behind_a_registration_says_where_to_go(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    with pytest.raises(CourseError, match=r"Register at https://idd\.insaan\.iiit\.ac\.in"):
        fetching.fetch("idd_lite")


def test_scenes_need_no_download():
    with pytest.raises(CourseError, match="drawn"):
        fetching.fetch("scenes")


def test_unknown_name_lists_the_names():
    with pytest.raises(CourseError, match="camvid, camvid-fastai"):
        catalogue.find("cityscapes")


def test_the_list_names_each_set_with_licence_and_place(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    catalogue.print_catalogue()
    printed = capsys.readouterr().out
    for name, facts in catalogue.entries().items():
        assert name in printed
        assert facts["licence"] in printed
    assert "course data fetch camvid" in printed
