"""One writer in a folder at a time.

The lock is the system's own (``flock``) on a file that says who holds it: a process that ends, in
whatever way, holds nothing any more, so a file that is left behind is stale and is taken over. On a
file system shared by several machines that asks for one with locks, as NFS has.
"""

import contextlib
import datetime
import fcntl
import json
import os
import socket
import time
from pathlib import Path

from ._files import told
from ._result import StudyError

NAME = ".symjax-lock"


class Lock:
    """A context in which no other process writes to ``folder``, made where it does not exist.

    At its end the folders that it made go again if nothing was put into them.

    Raises:
        StudyError: where another process holds it, which is named, or it cannot be written.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.path = self.folder / NAME

    def __enter__(self) -> "Lock":
        self._made = [f for f in (self.folder, *self.folder.parents) if not f.exists()]
        with told(self.folder):
            self._handle = self._open()
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, json.dumps(_holder()).encode(), 0)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink()
        os.close(self._handle)
        with contextlib.suppress(OSError):
            for folder in self._made:
                folder.rmdir()

    def _open(self) -> int:
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Whoever held it may have removed this very file meanwhile.
                if os.path.samestat(os.fstat(handle), os.stat(self.path)):
                    return handle
            except FileNotFoundError:
                pass
            except BlockingIOError:
                os.close(handle)
                raise StudyError(f"--out {self.folder} is in use: {self._who()}.") from None
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)

    def _who(self) -> str:
        for _ in range(20):  # a holder that has begun this moment has not written yet
            try:
                held = json.loads(self.path.read_bytes())
                return (
                    f"process {held['process']} on {held['host']} writes to it since "
                    f"{held['start']}"
                )
            except (OSError, ValueError, KeyError, TypeError):
                time.sleep(0.01)
        return "another process writes to it"


def _holder() -> dict[str, str | int]:
    start = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"host": socket.gethostname(), "process": os.getpid(), "start": start}
