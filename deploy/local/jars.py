"""Jars from Maven Central: fetched once into the cache of this machine, later starts are offline."""

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from schemas.cache import cache_dir
from schemas.errors import QuanyuError

#: The list of jars, written when all are there.
COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class Jars:
    """One program's jars; ``fetch`` downloads them below a folder and says where each is."""

    #: Folder in the cache; holds the version, so that a new one is fetched beside the old.
    name: str
    title: str
    #: What to do on a machine that cannot fetch them.
    instead: str
    fetch: Callable[[Path], list[str]]

    @property
    def folder(self) -> Path:
        """Where they are, or will be."""
        return cache_dir() / self.name

    def cached(self) -> bool:
        """Whether the list of jars is there and every jar in it too."""
        done = self.folder / COMPLETE
        return done.exists() and all(
            Path(jar).exists() for jar in done.read_text(encoding="utf-8").splitlines()
        )

    def classpath(self) -> str:
        """The class path; downloads what is not there.

        Raises :class:`QuanyuError` when the jars are not there and cannot be fetched.
        """
        done = self.folder / COMPLETE
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.cached():
                try:
                    jars = self.fetch(self.folder)
                except Exception as error:
                    raise QuanyuError(
                        f"{self.title} could not be fetched from Maven Central ({error}); go online "
                        f"once, or {self.instead}"
                    ) from None
                # Written last and whole: what it names is complete.
                draft = done.with_suffix(".new")
                draft.write_text("\n".join(jars), encoding="utf-8")
                draft.replace(done)
        return os.pathsep.join(done.read_text(encoding="utf-8").splitlines())
