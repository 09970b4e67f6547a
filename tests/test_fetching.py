"""Downloads from a server on this machine that is not always what it should be."""

import hashlib
import http.server
import io
import os
import random
import re
import shutil
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from course_utils.data import catalogue, fetching, load
from course_utils.errors import CourseError


class Server(http.server.BaseHTTPRequestHandler):
    """Serves ``files``, and misbehaves as it is told to.

    Attributes
    ----------
    cut
        Break off after so many bytes of an answer.
    adds
        How much more, or less, it says to send than it does.
    knows_ranges
        Whether it goes on where it is asked to.
    piece
        From where it goes on instead.
    status, headers
        An answer that is no file.
    """

    files: dict[str, bytes]
    ranges: list[str | None]
    cut: int | None = None
    adds = 0
    knows_ranges = True
    piece: int | None = None
    status = 0
    extra: dict[str, str]

    def do_GET(self):
        body = self.files.get(self.path)
        asked = self.headers.get("Range")
        self.ranges.append(asked)
        if body is None or self.status:
            self.send_response(self.status or 404)
            for name, value in self.extra.items():
                self.send_header(name, value)
            self.end_headers()
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.knows_ranges else 0
        if asked and start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.end_headers()
            return
        partly = bool(asked) and self.knows_ranges
        self.send_response(206 if partly else 200)
        self.send_header("Content-Length", str(len(body) - start + self.adds))
        if partly:
            first = start if self.piece is None else self.piece
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        rest = body[start:]
        self.wfile.write(rest if self.cut is None else rest[: self.cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    handler = type("Handler", (Server,), {"files": {}, "ranges": [], "extra": {}})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        handler.address = f"http://127.0.0.1:{running.server_port}"
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield handler
        running.shutdown()


def tar(members: dict[str, bytes], *more: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as bundle:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            bundle.addfile(info, io.BytesIO(content))
        for info in more:
            bundle.addfile(info)
    return buffer.getvalue()


def zipped(members: dict[str, bytes], *more: zipfile.ZipInfo) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name, content in members.items():
            bundle.writestr(name, content)
        for info in more:
            bundle.writestr(info, "/etc/passwd")
    return buffer.getvalue()


TOY = {"toy/codes.txt": b"a\nb\n", "toy/images/1.png": random.Random(0).randbytes(300_000)}


@pytest.fixture
def toy(server, tmp_path, monkeypatch):
    """A data set ``toy`` whose one archive the server has; returns its catalogue entry."""
    facts = {
        "title": "Toy",
        "homepage": "https://example.org/toy",
        "licence": "CC0",
        "citation": "Toy et al., 2020.",
        "places": ["toy"],
        "markers": ["codes.txt"],
        "files": [{"url": f"{server.address}/toy.tgz", "strip": 1}],
    }
    serve(server, facts, tar(TOY))
    monkeypatch.setattr(catalogue, "entries", lambda: {"toy": facts})
    monkeypatch.setattr(catalogue, "_shown", set())
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    return facts


def serve(server, facts: dict, content: bytes) -> None:
    """Put an archive on the server, and its checksum into the catalogue."""
    server.files["/toy.tgz"] = content
    facts["files"][0]["md5"] = hashlib.md5(content).hexdigest()


def refused(match: str) -> str:
    """Fetch; return the error, which is one line and says ``match``."""
    with pytest.raises(CourseError, match=match) as caught:
        fetching.fetch("toy")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def left_behind(tmp_path: Path) -> list[str]:
    folder = tmp_path / "data"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# ---------------------------------------------------------------------- all is well


def test_fetch_puts_the_set_where_find_finds_it(toy, tmp_path, capsys):
    folder = fetching.fetch("toy")
    assert folder == tmp_path / "data" / "toy" == catalogue.find("toy")
    assert left_behind(tmp_path) == ["toy/codes.txt", "toy/images/1.png"]
    printed = capsys.readouterr().out
    assert "licence: CC0" in printed
    assert "Toy et al., 2020." in printed


def test_terms_are_shown_before_anything_is_downloaded(toy, server, capsys):
    server.files.clear()
    refused("404")
    assert "licence: CC0" in capsys.readouterr().out


def test_fetch_again_downloads_nothing(toy, server):
    fetching.fetch("toy")
    server.files.clear()
    fetching.fetch("toy")


def test_what_macos_and_windows_leave_in_archives_is_passed_over(toy, server, tmp_path):
    junk = ("toy/._codes.txt", "toy/images/Thumbs.db", "toy/.DS_Store", "__MACOSX/toy/._codes.txt")
    serve(server, toy, zipped({"toy/codes.txt": b"a", **dict.fromkeys(junk, b"junk")}))
    fetching.fetch("toy")
    assert left_behind(tmp_path) == ["toy/codes.txt"]


def test_only_the_named_folder_of_a_zip_is_kept(tmp_path):
    archive = tmp_path / "tutorial.zip"
    archive.write_bytes(
        zipped({"T-master/CamVid/train/a.png": b"a", "T-master/Models/big.bin": b"b"})
    )
    fetching.unpack(archive, tmp_path / "out", {"strip": 2, "only": "CamVid/"})
    assert [p.name for p in (tmp_path / "out").rglob("*") if p.is_file()] == ["a.png"]


# ---------------------------------------------------------------------- servers


def test_a_download_cut_short_is_resumed(toy, server):
    server.cut = 200_000
    told = refused("broke off after 0.. MB.*Run `course data fetch toy` again: that resumes")
    assert "Offline" not in told
    server.cut = None
    fetching.fetch("toy")
    first, second = server.ranges
    assert first is None
    assert int(second.removeprefix("bytes=").rstrip("-")) > 100_000


def test_a_server_that_cannot_go_on_is_asked_for_all_of_it(toy, server):
    server.cut = 200_000
    refused("broke off")
    server.cut, server.knows_ranges = None, False
    fetching.fetch("toy")


def test_a_server_that_goes_on_elsewhere_is_not_believed(toy, server, tmp_path):
    server.cut = 200_000
    refused("broke off")
    server.cut, server.piece = None, 7
    refused("cannot be reached")
    server.piece = None
    fetching.fetch("toy")
    assert (tmp_path / "data/toy/images/1.png").read_bytes() == TOY["toy/images/1.png"]


def test_a_server_that_promises_more_than_it_has_is_found_out(toy, server):
    server.adds = 5_000
    refused("broke off")
    server.adds = 0
    fetching.fetch("toy")
    assert server.ranges[-1] is not None


def test_a_download_that_was_whole_when_it_was_stopped_is_taken(toy, server, tmp_path):
    server.cut = 200_000
    refused("broke off")
    (part,) = (tmp_path / "data" / fetching.DOWNLOADS).glob("*.part")
    part.write_bytes(server.files["/toy.tgz"])
    server.cut = None
    fetching.fetch("toy")
    assert server.ranges[1:] == [f"bytes={len(server.files['/toy.tgz'])}-"]


def test_a_server_that_promises_less_than_it_has_leaves_nothing(toy, server, tmp_path):
    server.adds = -5_000
    refused("checksum is not the one")
    assert left_behind(tmp_path) == []
    server.adds = 0
    fetching.fetch("toy")


def test_a_part_that_is_longer_than_the_file_is_thrown_away(toy, server, tmp_path):
    server.cut = 200_000
    refused("broke off")
    (part,) = (tmp_path / "data" / fetching.DOWNLOADS).glob("*.part")
    part.write_bytes(bytes(10**6))
    server.cut = None
    fetching.fetch("toy")


def test_wrong_bytes_leave_nothing(toy, server, tmp_path):
    server.files["/toy.tgz"] = b"<html>sign in to this network</html>"
    refused("checksum is not the one.*It was deleted")
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    ("status", "extra", "told"),
    [
        (404, {}, r"answer 404\): look at https://example.org/toy"),
        (403, {}, r"answer 403\)"),
        (429, {"Retry-After": "120"}, r"too often.*answer 429\): try again in 120 seconds"),
        (429, {}, r"answer 429\): try again in some minutes"),
        (503, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, "try again in some minutes"),
        (500, {}, r"fault of its own \(answer 500\): try again later"),
    ],
)
def test_an_answer_that_is_no_file_says_what_to_do(toy, server, tmp_path, status, extra, told):
    server.status, server.extra = status, extra
    assert "unpack it into" in refused(told)
    assert left_behind(tmp_path) == []
    server.status = 0
    fetching.fetch("toy")


def test_a_busy_server_does_not_cost_what_was_downloaded(toy, server):
    server.cut = 200_000
    refused("broke off")
    server.cut, server.status = None, 429
    refused("too often")
    server.status = 0
    fetching.fetch("toy")
    assert int(server.ranges[-1].removeprefix("bytes=").rstrip("-")) > 100_000


def test_a_server_that_falls_silent_is_left(toy, server, monkeypatch):
    silence = threading.Event()
    monkeypatch.setattr(server, "do_GET", lambda self: silence.wait(5))
    monkeypatch.setattr(fetching, "PATIENCE", 0.1)
    refused(r"cannot be reached \(ReadTimeout\)")
    silence.set()


def test_offline_says_what_to_do_in_one_line(toy, tmp_path):
    toy["files"][0]["url"] = "http://127.0.0.1:9/toy.tgz"
    refused(r"Offline\? .*unpack it into .*COURSE_DATA")
    assert left_behind(tmp_path) == []


# ---------------------------------------------------------------------- archives


@pytest.mark.parametrize("content", [b"<html>moved</html>", b"", tar(TOY)[:-200]])
def test_corrupt_archive_leaves_nothing_half_written(toy, server, tmp_path, content):
    serve(server, toy, content)
    refused("could not be unpacked.*It was deleted")
    assert left_behind(tmp_path) == []


def tar_entry(name: str, kind: bytes, target: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return tar({"toy/codes.txt": b"a"}, info)


def zip_link(name: str) -> bytes:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return zipped({"toy/codes.txt": b"a"}, info)


def encrypted() -> bytes:
    content = bytearray(zipped({"toy/codes.txt": b"a"}))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    content[6] |= 1
    return bytes(content)


HOSTILE = {
    "tar, up": (
        tar({"toy/codes.txt": b"a", "toy/../../../evil.txt": b""}),
        "outside of its folder",
    ),
    "zip, up": (
        zipped({"toy/codes.txt": b"a", "toy/../../evil.txt": b""}),
        "outside of its folder",
    ),
    "tar, absolute": (tar({"toy/codes.txt": b"a", "/tmp/toy/evil.txt": b""}), "outside of its"),
    "zip, absolute": (zipped({"toy/codes.txt": b"a", "/tmp/toy/evil.txt": b""}), "outside of its"),
    "Windows, up": (tar({"toy/codes.txt": b"a", "toy\\..\\..\\evil.txt": b""}), "outside of its"),
    "a drive": (tar({"toy/codes.txt": b"a", "C:\\toy\\evil.txt": b""}), "outside of its folder"),
    "a symbolic link": (tar_entry("toy/evil", tarfile.SYMTYPE, "/etc"), "a link or a device"),
    "a hard link": (tar_entry("toy/evil", tarfile.LNKTYPE, "/etc/passwd"), "a link or a device"),
    "a device": (tar_entry("toy/evil", tarfile.CHRTYPE), "a link or a device: toy/evil"),
    "a link in a zip": (zip_link("toy/evil"), "a link or a device: toy/evil"),
    "encrypted": (encrypted(), "could not be unpacked"),
    "two of a name": (
        tar({"toy/codes.txt": b"a", "toy/./codes.txt": b"b"}),
        "could not be unpacked",
    ),
    "a file as folder": (tar({"toy/codes.txt": b"a", "toy/codes.txt/b": b"b"}), "could not be un"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_whole(toy, server, tmp_path, kind):
    content, told = HOSTILE[kind]
    serve(server, toy, content)
    refused(told)
    assert left_behind(tmp_path) == []
    assert not list(tmp_path.rglob("evil*"))
    assert not Path("/tmp/toy/evil.txt").exists()


def test_a_bomb_is_not_unpacked(toy, server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "MOST_BYTES", 10**6)
    serve(server, toy, tar({"toy/codes.txt": b"a", "toy/bomb": bytes(5 * 10**6)}))
    refused("unpacks to more than")
    assert left_behind(tmp_path) == []


def test_an_archive_of_something_else_is_told_apart(toy, server, tmp_path):
    serve(server, toy, tar({"toy/readme.txt": b"moved"}))
    refused("holds no codes.txt: its owner changed it")
    assert not (tmp_path / "data" / "toy").exists()


def test_files_that_are_missing_are_counted(toy, tmp_path):
    toy["counts"] = {"images/*.png": 3}
    refused(r"holds 1 files images/\*\.png, not 3")
    assert not (tmp_path / "data" / "toy").exists()


# ---------------------------------------------------------------------- interrupted, full, pinned


@pytest.mark.parametrize("pinned", [True, False])
def test_stopped_while_it_unpacks_a_rerun_needs_no_download(
    toy, server, tmp_path, monkeypatch, pinned
):
    if not pinned:
        del toy["files"][0]["md5"]

    def stopped(archive, folder, file):
        folder.mkdir(parents=True)
        (folder / "codes.txt").write_text("half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetching, "unpack", stopped)
        with pytest.raises(KeyboardInterrupt):
            fetching.fetch("toy")
    assert [Path(name).suffix for name in left_behind(tmp_path)] == [".tgz"]
    assert catalogue.present("toy") is None
    server.files.clear()
    fetching.fetch("toy")


def test_what_a_killed_process_has_left_goes_after_a_day(toy, tmp_path):
    fresh, old = tmp_path / "data" / ".toy-fresh", tmp_path / "data" / ".toy-old"
    for folder in (fresh, old):
        (folder / "set").mkdir(parents=True)
    os.utime(old, (0, 0))
    fetching.fetch("toy")
    assert fresh.is_dir()
    assert not old.exists()


def test_a_full_disk_keeps_the_download(toy, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching, "unpack", full)
    refused(r"No space left.*the download is kept")
    assert [Path(name).suffix for name in left_behind(tmp_path)] == [".tgz"]


def test_a_disk_that_is_full_while_it_downloads_is_not_called_offline(toy, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching, "_copy", full)
    assert "Offline" not in refused("could not be written.*No space left on device")


def test_a_folder_in_the_way_is_named_before_the_download(toy, server, tmp_path):
    (tmp_path / "data" / "toy").mkdir(parents=True)
    refused("exists but holds no codes.txt. Move it away")
    assert server.ranges == []


def test_without_a_published_checksum_the_first_download_is_pinned(toy, server, tmp_path, capsys):
    del toy["files"][0]["md5"]
    folder = fetching.fetch("toy")
    assert "publishes no checksum" in capsys.readouterr().out
    folder.rename(tmp_path / "elsewhere")
    server.files["/toy.tgz"] = tar({"toy/codes.txt": b"changed"})
    refused("the first download")


def test_a_bad_first_download_is_not_what_later_ones_are_held_to(toy, server):
    del toy["files"][0]["md5"]
    good = server.files["/toy.tgz"]
    server.files["/toy.tgz"] = b"<html>sign in to this network</html>"
    refused("could not be unpacked")
    server.files["/toy.tgz"] = good
    assert fetching.fetch("toy") == catalogue.find("toy")


# ---------------------------------------------------------------------- people: converted


def picture(array: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def mat(labels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, {"groundtruth": labels})
    return buffer.getvalue()


def co_parsing(count: int = 30) -> dict[str, bytes]:
    """Return the files of a tiny Clothing Co-Parsing; photographs without labels, too."""
    root = "clothing-co-parsing-cbc8dea"
    files = {f"{root}/README.md": b"", f"{root}/annotations/image-level/1005.mat": b"x"}
    for k in range(1, count + 3):
        image = np.full((45, 30, 3), 20 * (k % 10), np.uint8)
        files[f"{root}/photos/{k:04d}.jpg"] = picture(image, "JPEG")
    for k in range(1, count + 1):
        labels = np.zeros((45, 30), np.uint8)
        labels[5:40, 10:20] = 1 + np.arange(35)[:, None] % 58
        files[f"{root}/annotations/pixel-level/{k:04d}.mat"] = mat(labels)
    return files


@pytest.fixture
def people(server, tmp_path, monkeypatch):
    """The set ``people``, of which the server has a tiny copy; returns its catalogue entry."""
    facts = dict(catalogue.entry("people"))
    (file,) = facts["files"]
    assert re.fullmatch(r".*/archive/[0-9a-f]{40}\.zip", file["url"])
    facts["files"] = [{**file, "url": f"{server.address}/people.zip"}]
    facts["counts"] = {"photos/*.jpg": 32, "annotations/pixel-level/*.mat": 30}
    server.files["/people.zip"] = zipped(co_parsing())
    monkeypatch.setattr(catalogue, "entries", lambda: {"people": facts})
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    return facts


def test_people_are_converted_on_arrival(people, tmp_path):
    folder = fetching.fetch("people")
    assert sorted(path.name for path in folder.iterdir()) == ["images", "masks"]
    splits = [load("people", split, size=(45, 30)) for split in ("train", "valid", "test")]
    assert sum(len(data) for data in splits) == 30
    for data in splits:
        assert (data.masks[:, 5:40, 10:20] == 1).all()
        assert data.masks.mean() == pytest.approx(35 * 10 / (45 * 30))


def test_an_archive_unpacked_by_hand_is_converted_when_it_is_loaded(people, tmp_path):
    for name, content in co_parsing().items():
        path = tmp_path / "data" / name.replace("-cbc8dea/", "-master/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    first = load("people", "train", count=3)
    assert len(first) == 3
    shutil.rmtree(tmp_path / "data" / "clothing-co-parsing-master")
    assert np.array_equal(load("people", "train", count=3).masks, first.masks)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("annotations/pixel-level/0003.mat", b"no mat", "0003.mat cannot be read"),
        ("photos/0003.jpg", b"no picture", "0003.jpg cannot be read"),
    ],
)
def test_what_cannot_be_converted_is_named_and_nothing_is_left(
    people, server, tmp_path, name, content, told
):
    files = co_parsing()
    files[f"clothing-co-parsing-cbc8dea/{name}"] = content
    server.files["/people.zip"] = zipped(files)
    with pytest.raises(CourseError, match=told) as caught:
        fetching.fetch("people")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data" / "people").exists()


def test_labels_of_another_size_are_left_out_and_named(people, server, capsys):
    files = co_parsing()
    small = mat(np.zeros((9, 9)))
    files["clothing-co-parsing-cbc8dea/annotations/pixel-level/0003.mat"] = small
    server.files["/people.zip"] = zipped(files)
    folder = fetching.fetch("people")
    assert "left out: 0003.mat is of (9, 9) pixels" in capsys.readouterr().out
    assert len(list((folder / "masks").iterdir())) == 29


def test_a_folder_that_cannot_be_written_is_told_not_to_be_converted(people, tmp_path, monkeypatch):
    raw = tmp_path / "data" / "people"
    (raw / "annotations" / "pixel-level").mkdir(parents=True)

    def denied(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryDirectory", denied)
    with pytest.raises(CourseError, match=r"converted once.*Permission denied.*COURSE_DATA"):
        load("people", "train")
