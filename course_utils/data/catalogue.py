"""The data sets of the course: what they are, where they lie, how to get them.

The facts stand in ``catalogue.toml`` beside this module. Downloads go through
`pooch`: to a temporary name, resumed if they were cut short, checked, then unpacked
into a temporary folder that takes its place only when it is whole.
"""

import errno
import gzip
import hashlib
import lzma
import os
import shutil
import tarfile
import tempfile
import tomllib
import zipfile
import zlib
from functools import cache
from importlib import resources
from pathlib import Path, PurePosixPath

from course_utils.errors import CourseError
from course_utils.files import write_atomic
from course_utils.paths import data_folder

DOWNLOADS = ".downloads"
"""Folder, in the data folder, of unfinished downloads and of the sums of finished ones."""

_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,
)


@cache
def entries() -> dict[str, dict]:
    """Return every data set by name, as `catalogue.toml` describes it."""
    text = resources.files("course_utils.data").joinpath("catalogue.toml").read_text("utf-8")
    return tomllib.loads(text)


def entry(name: str) -> dict:
    """Return what the catalogue says of a data set.

    Raises
    ------
    CourseError
        If there is no such set.
    """
    if name not in entries():
        raise CourseError(f"there is no data set {name!r}. There are: {', '.join(entries())}.")
    return entries()[name]


def present(name: str) -> Path | None:
    """Return the folder of a data set on this machine, or None."""
    facts = entry(name)
    for place in facts.get("places", []):
        folder = data_folder() / place
        if _holds(folder, facts):
            return folder
    return None


def _holds(folder: Path, facts: dict) -> bool:
    """Tell whether a folder holds what a data set is known by."""
    return any(any(folder.glob(marker)) for marker in facts["markers"])


def find(name: str) -> Path:
    """Return the folder of a data set on this machine.

    Raises
    ------
    CourseError
        If there is no such set, it is drawn rather than stored, or it is not here.
    """
    facts = entry(name)
    if "places" not in facts:
        raise CourseError(f"{name} lies nowhere: it is drawn when it is loaded.")
    folder = present(name)
    if folder is None:
        raise CourseError(
            f"{name} is not in {data_folder()}. Run `course data fetch {name}`, or set "
            "COURSE_DATA to the folder that holds it."
        )
    return folder


def print_catalogue() -> None:
    """Print each data set with its licence and whether it is on this machine."""
    print(f"Data folder: {data_folder()}  (set COURSE_DATA to use another)\n")
    for name, facts in entries().items():
        if "places" not in facts:
            where = "always here: drawn from a seed"
        elif folder := present(name):
            where = f"here: {folder}"
        elif "files" in facts:
            where = f"not here: course data fetch {name}"
        else:
            where = f"not here: {facts['how']} into {data_folder() / facts['places'][0]}"
        print(f"{name}: {facts['title']}")
        print(f"    {len(facts['classes'])} classes, void {facts['void']}")
        print(f"    licence: {facts['licence']}")
        print(f"    {where}")


def fetch(name: str) -> Path:
    """Download a data set into the data folder, unless it is there, and return its folder.

    Raises
    ------
    CourseError
        If it cannot be downloaded by a program, there is no connection or no room, or
        what came is not what it should be. Nothing half-written is left then, save a
        download that the next try resumes.
    """
    facts = entry(name)
    if "places" not in facts:
        raise CourseError(f"{name} needs no download: it is drawn when it is loaded.")
    if folder := present(name):
        return folder
    target = data_folder() / facts["places"][0]
    if "files" not in facts:
        raise CourseError(f"{name} cannot be fetched by a program. {facts['how']} into {target}.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary:
        whole = Path(temporary) / "set"
        for file in facts["files"]:
            archive = _download(name, file, target)
            try:
                unpack(archive, whole / file.get("folder", ""), file)
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
                    f"{archive.name} could not be unpacked into {target.parent} ({error}). {cure}, "
                    f"then run `course data fetch {name}` again: the download is kept."
                ) from None
        if not _holds(whole, facts):
            raise CourseError(
                f"what {facts['files'][0]['url']} gave holds no {facts['markers'][0]}: its owner "
                f"changed it. Get {name} from {facts['homepage']} and unpack it into {target}."
            )
        if target.exists():
            raise CourseError(
                f"{target} exists but holds no {facts['markers'][0]}. Move it away, then run "
                f"`course data fetch {name}` again."
            )
        os.replace(whole, target)
    for file in facts["files"]:
        _keep_checksum(name, file)
        (data_folder() / DOWNLOADS / _file_name(file)).unlink(missing_ok=True)
    return target


def unpack(archive: Path, folder: Path, file: dict) -> None:
    """Unpack a tar or zip archive.

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
        If it is neither, or would write outside of ``folder``.
    """
    strip, only = file.get("strip", 0), file.get("only", "")

    def place(member: str) -> Path | None:
        parts = PurePosixPath(member).parts
        if only and not "/".join(parts[1:]).startswith(only):
            return None
        if len(parts) <= strip:
            return None
        path = PurePosixPath(*parts[strip:])
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"it would write outside of its folder: {member}")
        return folder / path

    folder.mkdir(parents=True, exist_ok=True)
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as bundle:
            for item in bundle.infolist():
                path = place(item.filename)
                if path is not None and not item.is_dir():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with bundle.open(item) as source, open(path, "wb") as out:
                        shutil.copyfileobj(source, out)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as bundle:
            for item in bundle:
                path = place(item.name)
                # Links and devices have no place in a data set.
                if path is not None and item.isfile():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with bundle.extractfile(item) as source, open(path, "wb") as out:
                        shutil.copyfileobj(source, out)
    else:
        raise ValueError("it is neither a tar nor a zip archive")


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
    try:
        path = pooch.retrieve(
            url, known, fname=_file_name(file), path=folder, downloader=_ResumingDownload()
        )
    except ValueError:
        said_by = file.get("checksum_from", f"the first download (delete {pin} to take this one)")
        raise CourseError(
            f"{url} gave a file whose checksum is not the one of {said_by}. It was deleted: try "
            f"again; if it persists, its owner changed it: see {entry(name)['homepage']}."
        ) from None
    except (requests.RequestException, OSError) as error:
        raise CourseError(
            f"{url} cannot be reached ({type(error).__name__}). Offline? Then download it on "
            f"another machine, unpack it into {target}, or set COURSE_DATA to a folder that "
            "holds it. Trying again resumes the download."
        ) from None
    return Path(path)


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


class _ResumingDownload:
    """A downloader for `pooch` that goes on where a download was cut short."""

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        import requests
        from tqdm import tqdm

        folder = Path(output_file).parent
        part = folder / (hashlib.sha256(url.encode()).hexdigest()[:8] + ".part")
        have = part.stat().st_size if part.is_file() else 0
        headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"} if have else {}
        with requests.get(url, headers=headers, stream=True, timeout=30) as answer:
            if answer.status_code == 416:
                # The part is as long as the file, or longer: start anew.
                part.unlink()
                return self(url, output_file, pooch)
            answer.raise_for_status()
            if answer.status_code != 206:
                have = 0
            left = int(answer.headers.get("content-length", 0))
            with (
                open(part, "ab" if have else "wb") as out,
                tqdm(total=have + left or None, initial=have, unit="B", unit_scale=True) as bar,
            ):
                for block in answer.iter_content(1 << 16):
                    out.write(block)
                    bar.update(len(block))
        if left and part.stat().st_size != have + left:
            raise requests.ConnectionError("the connection was cut")
        os.replace(part, output_file)
        return None
