"""Assemble the image's root folder: the interpreter, what it loads, the agent, and nothing else.

    python3 assemble.py ROOT PACKAGES

PACKAGES holds the agent and its locked dependencies, as `pip install --target` leaves them. Run in
the build stage, by the interpreter that the image is to have: what it and the packages link to is
found with ldd. So the image has no shell, no package manager and no compiler, whatever the
architecture, on any base with glibc.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import shutil
import site
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

UNUSED_STANDARD = (
    *("__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter"),
    *("turtledemo", "ensurepip", "lib2to3", "pydoc_data", "distutils", "venv", "config-*"),
    *("_tkinter*", "_sqlite3*", "sqlite3", "_dbm*", "_gdbm*", "_curses*", "curses", "readline*"),
    *("nis*", "ossaudiodev*", "_test*", "_xxtest*", "xxlimited*", "_ctypes_test*", "*.a"),
)
"""What of the standard library no agent needs, and with it the libraries behind it."""

UNUSED_PACKAGES = (
    "kubernetes/aio",  # a second client, for asyncio
    "kubernetes/client/api/*_api.py",  # typed calls and models, loaded when first named:
    "kubernetes/client/models/[a-z]*.py",  # the agent reads plain JSON
    *("aiohttp*", "aiosignal*", "aiohappyeyeballs*"),  # what only that second client loads
    *("frozenlist*", "multidict*", "propcache*", "yarl*"),
    "tzdata*",  # all times are UTC
    "pygments*",  # colours for source code, which no table has
)
UNUSED_ANYWHERE = ("__pycache__", "*.pyi", "*.pxd", "*.pyx", "bin", "tests", "include")

UNLINKED = ("libgcc_s.so.1",)
"""Loaded by name when a thread ends: no program says that it needs it."""

FILES = {
    "etc/passwd": "root:x:0:0:root:/:/sbin/nologin\n",
    "etc/group": "root:x:0:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
PROGRAM = """#!{interpreter} -Es
from checkpointer.__main__ import start
start()
"""


def main(root: Path, packages: Path) -> None:
    """Fill `root`, which need not exist."""
    interpreter = Path(os.path.realpath(sys.executable))
    _copy(interpreter, root)
    standard = Path(sysconfig.get_path("stdlib"))
    _copy_folder(standard, _below(root, standard), UNUSED_STANDARD)
    for path in [path for pattern in UNUSED_PACKAGES for path in packages.glob(pattern)]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    _copy_folder(packages, _below(root, Path(site.getsitepackages()[0])), UNUSED_ANYWHERE)
    libraries = _libraries([interpreter, *root.rglob("*.so"), *root.rglob("*.so.*")], root)
    for library in libraries:
        _copy(library, root)
    _name_packages([interpreter, *libraries], root)
    for name, content in FILES.items():
        _write(root / name, content)
    program = root / "usr/bin/checkpointer"
    _write(program, PROGRAM.format(interpreter=interpreter))
    program.chmod(0o755)
    _compile(root)


def _libraries(programs: Iterable[Path], root: Path) -> list[Path]:
    """Return the files that the loader brings in for these programs, itself among them."""
    found: set[Path] = set()
    for program in programs:
        answer = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
        for line in answer.stdout.splitlines():
            # libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...); /lib64/ld-... (0x...)
            if "not found" in line:
                raise SystemExit(f"{program}: {line.strip()}")
            path = Path(line.split("=>")[-1].split("(")[0].strip())
            if path.is_absolute() and root not in path.parents:
                found.add(path)
    folder = next(path.parent for path in found if path.name == "libc.so.6")
    return sorted({*found, *(folder / name for name in UNLINKED)})


def _name_packages(files: Iterable[Path], root: Path) -> None:
    """Keep the records of Debian's packages that files came from: scanners go by them."""
    names = set()
    for file in files:
        for path in (file, Path(os.path.realpath(file))):
            search = ["dpkg-query", "--search", path]
            answer = subprocess.run(search, capture_output=True, text=True, check=False)
            names.update(line.split(":")[0] for line in answer.stdout.splitlines())
    for name in sorted(names):
        record = ["dpkg", "--status", name]
        status = subprocess.run(record, capture_output=True, text=True, check=True)
        _write(root / "var/lib/dpkg/status.d" / name, status.stdout)


def _compile(root: Path) -> None:
    """Compile all modules: the image is read-only, and no start may wait for it."""
    is_compiled = compileall.compile_dir(
        root,
        maxlevels=50,
        quiet=1,
        stripdir=str(root),
        prependdir="/",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    if not is_compiled:
        raise SystemExit(f"{root}: some modules do not compile")


def _copy_folder(source: Path, target: Path, unused: tuple[str, ...]) -> None:
    shutil.copytree(
        source,
        target,
        ignore=shutil.ignore_patterns(*unused),
        ignore_dangling_symlinks=True,
        dirs_exist_ok=True,
    )


def _copy(file: Path, root: Path) -> None:
    target = _below(root, file)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(file, target)


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
