"""Brings a data set into the data folder: downloaded, checked, unpacked, put in place whole.

Downloads go through `pooch`: to a temporary name, resumed if they were cut short, checked, then
unpacked into a temporary folder that takes its place only when it is whole. An archive is not
trusted: what leads out of its folder, a link, or more than a data set ever holds is refused.
"""

import errno
import gzip
import hashlib
import lzma
import os
import re
import shutil
import stat
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from course_utils.data import catalogue, module_of
from course_utils.errors import CourseError
from course_utils.files import write_atomic
from course_utils.paths import data_folder

DOWNLOADS = ".downloads"
"""Folder, in the data folder, of unfinished downloads and of the sums of finished ones."""

MOST_BYTES = 40 * 10**9
"""No set of the course is larger, unpacked."""

PATIENCE = 30
"""Seconds to wait for a server that says nothing."""

_DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError),
    *(EOFError, ValueError, NotImplementedError, RuntimeError),
    *(FileExistsError, IsADirectoryError, NotADirectoryError),  # two entries of one name
)


def fetch(name: str) -> Path:
    """Download a data set into the data folder, unless it is there, and return its folder.

    Prints its licence and what to cite first.

    Raises
    ------
    CourseError
        If it cannot be downloaded by a program, there is no connection or no room, or
        what came is not what it should be. Nothing half-written is left then, save a
        download that the next try resumes.
    """
    facts = catalogue.entry(name)
    if "places" not in facts:
        raise CourseError(f"{name} needs no download: it is drawn when it is loaded.")
    catalogue.show_terms(name)
    if folder := catalogue.present(name):
        return folder
    if "files" not in facts:
        raise CourseError(f"{name} cannot be fetched by a program. {catalogue.how_to_get(name)}.")
    target = data_folder() / facts["places"][0]
    if target.exists():
        raise CourseError(
            f"{target} exists but holds no {facts['markers'][0]}. Move it away, then run "
            f"`course data fetch {name}` again."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    _clear_away(target)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary:
        whole = Path(temporary) / "set"
        archives = [_download(name, file, target) for file in facts["files"]]
        for archive, file in zip(archives, facts["files"], strict=True):
            _unpack_checked(name, archive, whole / file.get("folder", ""), file)
        _check_content(name, whole, target)
        if convert := getattr(_module(name), "convert", None):
            converted = Path(temporary) / "converted"
            converted.mkdir()
            convert(whole, converted)
            whole = converted
        os.replace(whole, target)
    for archive, file in zip(archives, facts["files"], strict=True):
        _keep_checksum(name, file)
        archive.unlink(missing_ok=True)
    return target


def _clear_away(target: Path) -> None:
    """Delete what a process has left beside ``target`` that was killed a day ago or more."""
    for left in target.parent.glob(f".{target.name}-*"):
        if time.time() - left.stat().st_mtime > 86_400:
            shutil.rmtree(left, ignore_errors=True)


def _module(name: str) -> object | None:
    try:
        return module_of(name)
    except CourseError:  # a second layout of another set
        return None


def _unpack_checked(name: str, archive: Path, folder: Path, file: dict) -> None:
    """Unpack an archive; one that is damaged is deleted, and what to do is said."""
    try:
        unpack(archive, folder, file)
    except _DAMAGED as error:
        archive.unlink(missing_ok=True)
        raise CourseError(
            f"{archive.name} could not be unpacked ({error}). It was deleted: run "
            f"`course data fetch {name}` again."
        ) from None
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        cure = "Make room" if full else f"Mend that, or delete {archive}"
        raise CourseError(
            f"{archive.name} could not be unpacked into {folder.parent} ({error}). {cure}, "
            f"then run `course data fetch {name}` again: the download is kept."
        ) from None


def _check_content(name: str, whole: Path, target: Path) -> None:
    """Look whether what was unpacked is the data set."""
    facts = catalogue.entry(name)
    changed = (
        f"its owner changed it. Get {name} from {facts['homepage']} and unpack it into {target}"
    )
    if not catalogue.holds(whole, facts):
        marker = facts["markers"][0]
        raise CourseError(f"what {facts['files'][0]['url']} gave holds no {marker}: {changed}.")
    for pattern, expected in facts.get("counts", {}).items():
        found = sum(1 for _ in whole.glob(pattern))
        if found != expected:
            raise CourseError(
                f"what {facts['files'][0]['url']} gave holds {found} files {pattern}, not "
                f"{expected}: {changed}."
            )


# ---------------------------------------------------------------------- archives


def unpack(archive: Path, folder: Path, file: dict) -> None:
    """Unpack a tar or zip archive that may be hostile.

    What programs of macOS and Windows leave beside files (``._a.png``, ``Thumbs.db``) is passed
    over.

    Parameters
    ----------
    archive
        The file.
    folder
        Where to; made if absent.
    file
        ``strip``: how many leading folders to drop; ``only``: keep what lies in this
        folder, after the first of those is dropped.

    Raises
    ------
    ValueError
        If it is neither, would write outside of ``folder``, holds a link or a device, or
        unpacks to more than `MOST_BYTES`.
    """
    strip, only = file.get("strip", 0), file.get("only", "")
    folder.mkdir(parents=True, exist_ok=True)
    left = MOST_BYTES
    with _opened(archive) as members:
        for member, source in members:
            path = _place(member)
            if only and not "/".join(path.parts[1:]).startswith(only):
                continue
            if len(path.parts) <= strip or _is_junk(path):
                continue
            target = folder.joinpath(*path.parts[strip:])
            target.parent.mkdir(parents=True, exist_ok=True)
            with source() as content, open(target, "xb") as out:
                while block := content.read(1 << 20):
                    left -= len(block)
                    if left < 0:
                        raise ValueError(f"it unpacks to more than {MOST_BYTES / 1e9:.0f} GB")
                    out.write(block)


def _place(member: str) -> PurePosixPath:
    """Return where a member wants to be; whether it is one of ours or not, it must stay inside."""
    path = PurePosixPath(member.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", member):
        raise ValueError(f"it would write outside of its folder: {member}")
    return path


def _is_junk(path: PurePosixPath) -> bool:
    return (
        "__MACOSX" in path.parts
        or path.name.startswith("._")
        or path.name in (".DS_Store", "Thumbs.db", "desktop.ini")
    )


class _opened:
    """The files of an archive: pairs of a name and what opens it."""

    def __init__(self, archive: Path) -> None:
        if zipfile.is_zipfile(archive):
            self.bundle, self.members = zipfile.ZipFile(archive), self._of_zip
        elif tarfile.is_tarfile(archive):
            self.bundle, self.members = tarfile.open(archive), self._of_tar  # noqa: SIM115 - see __exit__
        else:
            raise ValueError("it is neither a tar nor a zip archive")

    def __enter__(self) -> Iterator[tuple[str, object]]:
        return self.members()

    def __exit__(self, *_: object) -> None:
        self.bundle.close()

    def _of_zip(self) -> Iterator[tuple[str, object]]:
        for item in self.bundle.infolist():
            if stat.S_IFMT(item.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ValueError(f"it holds a link or a device: {item.filename}")
            if not item.is_dir():
                yield item.filename, lambda item=item: self.bundle.open(item)

    def _of_tar(self) -> Iterator[tuple[str, object]]:
        for item in self.bundle:
            if not (item.isfile() or item.isdir()):
                raise ValueError(f"it holds a link or a device: {item.name}")
            if item.isfile():
                yield item.name, lambda item=item: self.bundle.extractfile(item)


# ---------------------------------------------------------------------- downloads


def _file_name(file: dict) -> str:
    """Return the name of a download, unlike that of any other set's."""
    tail = PurePosixPath(file["url"]).name
    return f"{hashlib.sha256(file['url'].encode()).hexdigest()[:8]}-{tail}"


def _download(name: str, file: dict, target: Path) -> Path:
    """Download one file, checked, and return its path."""
    import pooch
    import requests

    folder, url = data_folder() / DOWNLOADS, file["url"]
    folder.mkdir(parents=True, exist_ok=True)
    needed = 2.2 * file.get("bytes", 0)
    if shutil.disk_usage(folder).free < needed:
        raise CourseError(
            f"{name} needs {needed / 1e9:.1f} GB in {data_folder()}, which has "
            f"{shutil.disk_usage(folder).free / 1e9:.1f} GB. Make room, or set COURSE_DATA to "
            "a folder on another disk."
        )
    pin = _pin(file)
    published = next((f"{kind}:{file[kind]}" for kind in ("sha256", "md5") if kind in file), None)
    known = published or (pin.read_text().strip() if pin.is_file() else None)
    pooch.get_logger().setLevel("WARNING")
    by_hand = (
        f"download it on another machine, unpack it into {target}, or set COURSE_DATA to a folder "
        "that holds it"
    )
    try:
        path = pooch.retrieve(
            url, known, fname=_file_name(file), path=folder, downloader=_ResumingDownload()
        )
    except ValueError:
        said_by = file.get("checksum_from", f"the first download (delete {pin} to take this one)")
        raise CourseError(
            f"{url} gave a file whose checksum is not the one of {said_by}. It was deleted: try "
            f"again; if it persists, its owner changed it: see {catalogue.entry(name)['homepage']}."
        ) from None
    except _Answer as error:
        home = catalogue.entry(name)["homepage"]
        raise CourseError(f"{url} {error.told(home)}, or {by_hand}.") from None
    except requests.RequestException as error:
        what = type(error).__name__
        if have := _size(_part(folder, url)):
            raise CourseError(
                f"{url} broke off after {have / 1e6:.1f} MB ({what}). Run `course data fetch "
                f"{name}` again: that resumes the download. Or {by_hand}."
            ) from None
        raise CourseError(
            f"{url} cannot be reached ({what}). Offline? Then {by_hand}. Trying again resumes the "
            "download."
        ) from None
    except OSError as error:
        raise CourseError(
            f"{url} could not be written to {folder} ({error.strerror or error}). Mend that, then "
            f"run `course data fetch {name}` again: it goes on where it stopped."
        ) from None
    return Path(path)


def _part(folder: Path, url: str) -> Path:
    """Return where a download lies until it is whole."""
    return folder / (hashlib.sha256(url.encode()).hexdigest()[:8] + ".part")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _keep_checksum(name: str, file: dict) -> None:
    """Store the checksum of the first good download, where the owner publishes none."""
    pin = _pin(file)
    if "sha256" in file or "md5" in file or pin.is_file():
        return
    with open(data_folder() / DOWNLOADS / _file_name(file), "rb") as archive:
        digest = hashlib.file_digest(archive, "sha256").hexdigest()
    write_atomic(pin, f"sha256:{digest}\n")
    print(f"{name}: its owner publishes no checksum; sha256 {digest} is stored in {pin}.")


def _pin(file: dict) -> Path:
    return data_folder() / DOWNLOADS / (_file_name(file) + ".sha256")


class _Answer(Exception):
    """A server's answer that is no file."""

    def __init__(self, status: int, wait: str | None) -> None:
        super().__init__(status)
        self.status, self.wait = status, wait

    def told(self, homepage: str) -> str:
        """Return what it means, and what to do."""
        if self.status in (429, 503):
            seconds = self.wait if (self.wait or "").isdigit() else None
            when = f"in {seconds} seconds" if seconds else "in some minutes"
            return f"is asked for too often at the moment (answer {self.status}): try again {when}"
        if self.status >= 500:
            return f"has a fault of its own (answer {self.status}): try again later"
        return f"is not to be had (answer {self.status}): look at {homepage} where it is now"


class _ResumingDownload:
    """A downloader for `pooch` that goes on where a download was cut short."""

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        import requests
        from tqdm import tqdm

        part = _part(Path(output_file).parent, url)
        have = _size(part)
        # Packed once more on its way, a file's length and the place to go on would be unknown.
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        with requests.get(url, headers=headers, stream=True, timeout=PATIENCE) as answer:
            if answer.status_code == 416 and have:
                if answer.headers.get("content-range") != f"bytes */{have}":
                    part.unlink()  # longer than the file: start anew
                    return self(url, output_file, pooch)
                os.replace(part, output_file)  # all of it was there
                return None
            if answer.status_code >= 400:
                raise _Answer(answer.status_code, answer.headers.get("retry-after"))
            if answer.status_code == 206:
                if not answer.headers.get("content-range", "").startswith(f"bytes {have}-"):
                    part.unlink(missing_ok=True)  # another piece than was asked for: start anew
                    raise requests.ConnectionError("the server sent another piece")
            else:
                have = 0
            left = int(answer.headers.get("content-length", 0))
            with (
                open(part, "ab" if have else "wb") as out,
                tqdm(total=have + left or None, initial=have, unit="B", unit_scale=True) as bar,
            ):
                _copy(answer, out, bar)
        if left and part.stat().st_size != have + left:
            raise requests.ConnectionError("the connection was cut")
        os.replace(part, output_file)
        return None


def _copy(answer: object, out: IO[bytes], bar: object) -> None:
    for block in answer.iter_content(1 << 16):
        out.write(block)
        bar.update(len(block))
