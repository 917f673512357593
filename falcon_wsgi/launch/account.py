"""The user that embedded servers run as, and the folders which that user can reach.

Postgres refuses to run as root, and no server should. Started by root, both servers therefore run as an
existing unprivileged user. What that user cannot reach (a clone or a virtual environment below /root, say) is
put below `/var/lib/falcon`; the permissions of existing folders are never changed.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from falcon_wsgi.errors import ConfigurationError

ROOT_STATE = Path("/var/lib/falcon")


@dataclass(frozen=True)
class Account:
    """A user by its numeric ids. `switch` is false where the current user is kept."""

    uid: int
    gid: int
    switch: bool
    state: Path = ROOT_STATE

    @classmethod
    def for_servers(cls, state: Path = ROOT_STATE) -> Account:
        """The current user, or for root `postgres` or else `nobody`.

        Raises:
            ConfigurationError: root, on a machine with neither user.
        """
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid(), switch=False, state=state)
        for name in ("postgres", "nobody"):
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(entry.pw_uid, entry.pw_gid, switch=True, state=state)
        raise ConfigurationError(
            "embedded servers do not run as root, and there is no user postgres or nobody"
        )

    def popen_options(self) -> dict[str, Any]:
        """Arguments for `subprocess.Popen`. All supplementary groups are dropped before the ids change."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.switch else {}

    def can_enter(self, folder: Path) -> bool:
        """Whether the account may traverse to the folder; asked of the kernel, so access lists count too."""
        return not self.switch or self._succeeds("/bin/sh", "-c", 'cd -P -- "$1"', "sh", str(folder))

    def can_run(self, program: Path) -> bool:
        """Whether the account can start the program and load its libraries."""
        return not self.switch or self._succeeds(str(program), "--version")

    def _succeeds(self, *command: str) -> bool:
        try:
            done = subprocess.run(
                command, cwd="/", env={"LC_ALL": "C"}, capture_output=True, timeout=20, **self.popen_options()
            )
        except (OSError, subprocess.SubprocessError):
            return False
        return done.returncode == 0

    def shared_folder(self, name: str) -> Path:
        """A folder below the state folder that belongs to the current user and that every user may enter."""
        _make_public(self.state)
        folder = self.state / name
        _make_public(folder)
        return folder

    def owning(self, folder: Path) -> Account:
        """The account to use with an existing folder: root goes on as whoever the folder belongs to."""
        owner = folder.stat()
        if not self.switch or owner.st_uid in (self.uid, 0):
            return self
        return replace(self, uid=owner.st_uid, gid=owner.st_gid)

    def moved(self, wanted: Path) -> Path:
        """Where the folder is put if the account cannot reach `wanted`."""
        digest = hashlib.sha256(str(wanted).encode()).hexdigest()[:16]
        return self.state / digest / wanted.name

    def own_folder(self, wanted: Path) -> Path:
        """Create, or find again, a folder of mode 0700 that belongs to the account.

        It is `wanted` itself if the account can reach that, else one below the state folder whose name is a
        hash of `wanted`: two clones never share it, and the next start from the same clone finds it again.
        """
        wanted = wanted.parent.resolve() / wanted.name
        moved = self.moved(wanted)
        if not wanted.exists() and self.switch and (moved.exists() or not self.can_enter(wanted.parent)):
            wanted = self.shared_folder(moved.parent.name) / wanted.name
        try:
            wanted.mkdir(mode=0o700)
        except FileExistsError:
            return wanted
        if self.switch:
            os.chown(wanted, self.uid, self.gid)
        return wanted


def _make_public(folder: Path) -> None:
    """Create a folder that every user may enter, whatever the umask; leave an existing one as it is."""
    try:
        folder.mkdir()
    except FileExistsError:
        return
    folder.chmod(0o755)
