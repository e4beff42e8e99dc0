#!/usr/bin/env python3
"""clang-tidy 19 over src/ (tests excepted) with the compile commands of a build folder; the checks are in .clang-tidy.

  scripts/check_tidy.py [BUILD [FILE...]]     BUILD: build/release; without files all of src/

A file is looked at again only when it, a header of ours, its compile command or .clang-tidy changed: BUILD/tidy holds a
stamp for each clean file. A fresh build folder checks everything.

Most of the time goes into headers, so files of different folders (other namespaces: their names cannot clash) are read
as one translation unit. A unit that is not clean, for whatever reason, is looked at again file by file, and only that
counts.
"""
import concurrent.futures
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TIDY = "clang-tidy-19"
MAX_UNIT = 6


def git_files(*patterns):
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, check=True, capture_output=True, text=True)
    return listed.stdout.split()


def read_commands(build):
    """{file: words of its compile command}, files relative to the repository."""
    commands = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        file = pathlib.Path(entry["file"])
        if file.is_relative_to(ROOT):
            commands[str(file.relative_to(ROOT))] = shlex.split(entry["command"])
    return commands


def flags_of(words):
    """(include paths and definitions, which may be joined; everything else that changes what the code means)."""
    joined, rest, i = [], [], 1
    while i < len(words):
        if words[i] in ("-isystem", "-I", "-D", "-include"):
            joined.append((words[i], words[i + 1]))
            i += 1
        elif words[i] in ("-o", "-c"):
            i += 1
        elif words[i].startswith(("-I", "-D")):
            joined.append((words[i],))
        elif words[i].startswith(("-m", "-f", "-std", "-O")):
            rest.append(words[i])
        i += 1
    return joined, tuple(rest)


def namespace_of(file):
    parts = file.split("/")
    return "/".join(parts[1:3]) if parts[1] == "backend" and len(parts) > 3 else parts[1]


def make_units(files, commands):
    """Lists of files with equal flags, each of another namespace."""
    by_flags = {}
    for file in files:
        by_flags.setdefault(flags_of(commands[file])[1], {}).setdefault(namespace_of(file), []).append(file)
    units = []
    for folders in by_flags.values():
        while folders:
            largest = sorted(folders, key=lambda name: (-len(folders[name]), name))[:MAX_UNIT]
            units.append([folders[name].pop() for name in largest])
            folders = {name: left for name, left in folders.items() if left}
    return units


def tidy(arguments):
    return subprocess.run([TIDY, "--quiet", "--extra-arg=-w", f"--config-file={ROOT / '.clang-tidy'}", *arguments],
                          cwd=ROOT, capture_output=True, text=True)  # -w: warnings are GCC's task, in the ci preset


class Checker:
    def __init__(self, build):
        self.build = build
        self.commands = read_commands(build)
        self.stamps = build / "tidy"
        self.stamps.mkdir(exist_ok=True)
        version = subprocess.run([TIDY, "--version"], check=True, capture_output=True).stdout
        # Every header of ours, by content: coarser than the files it includes, and never wrong.
        contents = b"".join((ROOT / file).read_bytes() for file in git_files("src/*.h", "src/*.inc", "include/*.h"))
        self.common = hashlib.sha256((ROOT / ".clang-tidy").read_bytes() + version + contents).hexdigest()

    def stamp(self, file):
        return self.stamps / file.replace("/", "_")

    def key(self, file):
        text = self.common + " ".join(self.commands[file]) + (ROOT / file).read_text()
        return hashlib.sha256(text.encode()).hexdigest()

    def is_known_clean(self, file):
        stamp = self.stamp(file)
        return stamp.exists() and stamp.read_text() == self.key(file)

    def unit_is_clean(self, unit):
        source = self.stamps / (unit[0].replace("/", "_") + ".unit.cpp")
        source.write_text("".join(f'#include "{ROOT / file}"\n' for file in unit))
        joined = []
        for file in unit:
            joined += [flag for flag in flags_of(self.commands[file])[0] if flag not in joined]
        flags = [word for flag in joined for word in flag] + list(flags_of(self.commands[unit[0]])[1])
        return tidy(["--checks=-bugprone-suspicious-include", str(source), "--", *flags]).returncode == 0

    def check(self, unit):
        """What is wrong with the unit's files; leaves a stamp for each clean one."""
        keys = {file: self.key(file) for file in unit}
        problems = []
        all_clean = len(unit) > 1 and self.unit_is_clean(unit)
        for file in unit:
            result = None if all_clean else tidy(["-p", str(self.build), file])
            if result is None or result.returncode == 0:
                self.stamp(file).write_text(keys[file])
            else:
                problems.append(result.stdout + result.stderr)
        return problems


def main():
    build = (ROOT / (sys.argv[1] if len(sys.argv) > 1 else "build/release")).resolve()
    if not (build / "compile_commands.json").exists():
        sys.exit(f"{build}: configure it first (cmake --preset ci -B {build})")
    checker = Checker(build)
    wanted = [os.path.relpath(pathlib.Path(file).resolve(), ROOT) for file in sys.argv[2:]]
    if not wanted:
        wanted = [file for file in git_files("src/*.cpp") if not file.endswith("_test.cpp")]
    # A file that this configuration does not build (another backend) has no command.
    files = [file for file in wanted if file in checker.commands]
    if not files:
        sys.exit("tidy: no file to check")
    units = make_units([file for file in files if not checker.is_known_clean(file)], checker.commands)
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        problems = [text for texts in pool.map(checker.check, units) for text in texts]
    for text in problems:
        print("\n".join(line for line in text.splitlines()
                        if not line.startswith(("Suppressed", "Use -header-filter")) and "warnings generated" not in line))
    if problems:
        sys.exit("tidy: problems in src/")
    print(f"tidy: {len(files)} files are clean, read as {len(units)} units")


if __name__ == "__main__":
    main()
