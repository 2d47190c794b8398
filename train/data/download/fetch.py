"""Downloads a file: with a time limit, resumed after an interruption, its checksum verified."""

import dataclasses
import hashlib
import http.client
import pathlib
import threading
import urllib.error
import urllib.request
from collections.abc import Callable

from flaxnets.errors import UserError

TIMEOUT = 10.0  # seconds without a byte
REACH = 5.0  # seconds until a host counts as not reachable; name servers can take longer
ATTEMPTS = 5  # each continues where the one before was interrupted
BLOCK = 1 << 18

Progress = Callable[[int, int], None]  # bytes there, bytes in all


@dataclasses.dataclass(frozen=True)
class Archive:
    """A published file: where it is, how long, and its SHA-256."""

    url: str
    size: int
    sha256: str

    @property
    def file_name(self) -> str:
        """The last part of the URL."""
        return self.url.rpartition('/')[2]


def fetch(
    archive: Archive, folder: pathlib.Path, progress: Progress = lambda done, size: None
) -> pathlib.Path:
    """The archive as a verified file in `folder`: the one that is there, or downloaded.

    Bytes arrive in `<name>.part`, which a later call continues with an HTTP range; the file gets its name
    when its SHA-256 is the published one. Raises UserError if bytes are missing or wrong.
    """
    file = folder / archive.file_name
    if file.exists() and _sha256(file) == archive.sha256:
        return file
    part = file.with_name(file.name + '.part')
    resumed = part.exists()
    folder.mkdir(parents=True, exist_ok=True)
    _download(archive, part, progress)
    if _sha256(part) != archive.sha256 and resumed:  # the part was the beginning of another file
        part.unlink()
        _download(archive, part, progress)
    found = _sha256(part)
    if found != archive.sha256:
        part.unlink()
        raise UserError(
            f'{archive.url}: expected SHA-256 {archive.sha256[:16]}..., got {found[:16]}...; '
            f'try again later, or put the published file at {file}'
        )
    part.replace(file)
    return file


def check_reachable(url: str) -> None:
    """Raise UserError, soon, unless the URL's host answers."""
    outcome: list[Exception] = [TimeoutError(f'no answer in {REACH:.0f} s')]

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method='HEAD'), timeout=REACH).close()
            outcome.clear()
        except urllib.error.HTTPError as answer:  # it may not know HEAD, but it is there
            answer.close()
            outcome.clear()
        except Exception as error:
            outcome[:] = [error]

    asking = threading.Thread(target=ask, daemon=True)  # looking up a name has no time limit of its own
    asking.start()
    asking.join(REACH)
    for error in outcome:
        raise UserError(f'{url} cannot be reached ({_line(error)})') from error


def _download(archive: Archive, part: pathlib.Path, progress: Progress) -> None:
    """Fill `part` up to the archive's size."""
    error: Exception | None = None
    for _ in range(ATTEMPTS):
        try:
            _continue(archive, part, progress)
        except urllib.error.HTTPError as refusal:
            refusal.close()
            error = refusal
            if refusal.code < 500:
                break
            continue
        except (OSError, http.client.HTTPException) as failed:
            error = failed
            continue
        if part.stat().st_size == archive.size:
            return
    there = part.stat().st_size if part.exists() else 0
    reason = _line(error) if error else 'the file ends early'
    raise UserError(
        f'{archive.url}: {there} of {archive.size} bytes came ({reason}); run the same command again to go on'
    ) from error


def _continue(archive: Archive, part: pathlib.Path, progress: Progress) -> None:
    there = part.stat().st_size if part.exists() else 0
    if there > archive.size:
        part.unlink()
        there = 0
    if there == archive.size:
        return
    request = urllib.request.Request(archive.url, headers={'Range': f'bytes={there}-'} if there else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        if answer.status != 206:  # a server without ranges sends it all again
            there = 0
        with part.open('ab' if there else 'wb') as file:
            while there < archive.size and (block := answer.read(min(BLOCK, archive.size - there))):
                file.write(block)
                there += len(block)
                progress(there, archive.size)


def _sha256(file: pathlib.Path) -> str:
    with file.open('rb') as stream:
        return hashlib.file_digest(stream, 'sha256').hexdigest()


def _line(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return f'{reason}'.split('\n')[0] or type(error).__name__
