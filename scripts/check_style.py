#!/usr/bin/env python3
"""Checks what clang-format and clang-tidy do not: sizes of files and functions, and words that may not appear.

Prints one line a violation and exits 1 on any; files above the soft limit are named and accepted. Without arguments
it looks at the files that git tracks; check_style_test.py gives it others.
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
MAX_LINES = 1000
SOFT_LINES = 600
MAX_FUNCTION_LINES = 60
MAX_CMAKE_LINES = 40

CODE = ('.h', '.cpp', '.cu', '.cuh', '.inc')
# Where the library lives: stricter rules than for tools and tests.
LIBRARY = ('include/', 'src/')
# Kernels may be longer than other functions; the long functions of tests are tables of cases.
KERNEL = re.compile(r'__global__|__device__')
ANY_LENGTH = ('src/backend/cpu/simd/', 'tests/')

# (pattern, what it means, prefixes of the files it is looked for in, whether tests are excused)
FORBIDDEN = [
    (re.compile(r'#\s*include\s*<iostream>'), '<iostream> is for tools', LIBRARY, False),
    (re.compile(r'\bgetenv\b'), 'the library reads no environment; pass an option', LIBRARY, True),
    (re.compile(r'\b(TO' r'DO|FIX' r'ME|XX' r'X)\b(?!\(#\d+\))'), 'an open end needs an issue: TO' 'DO(#12)', ('',),
     False),
    (re.compile(r'(?<![\w.:~/}])/(home|root|work|Users|mnt)/\w'), "a path of somebody's machine", ('',), False),
]
TEXT = CODE + ('.py', '.sh', '.cmake', '.txt', '.md', '.toml', '.yml')
TEXT_NAMES = ('CMakePresets.json', 'run')
# Recorded data, not ours to style.
DATA = ('tests/golden/', 'fuzz/corpus/', 'bench/results/')

STRING_OR_COMMENT = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"([^(\s]*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.S)


def blank(match):
    """Same number of lines, nothing to trip over. Digit separators are no character literals."""
    text = match.group(0)
    return '\n' * text.count('\n') or ' '


def functions(code):
    """(name, first line, last line) of every function body at namespace or class level. A heuristic: good enough for
    formatted code."""
    code = re.sub(r"(?<=\d)'(?=\d)", '', code)
    code = STRING_OR_COMMENT.sub(blank, code)
    code = re.sub(r'^[ \t]*#(?:[^\n]*\\\n)*[^\n]*', blank, code, flags=re.M)
    found, stack, head, line, head_line = [], [], '', 1, 1
    for at, c in enumerate(code):
        if c == '\n':
            line += 1
        if c == '{':
            stack.append((kind_of(head) if all(k == 'scope' for k, _, _ in stack) else 'inner', head, head_line))
            head = ''
        elif c == '}':
            if not stack:
                return found  # unbalanced by a macro: say nothing about the rest
            kind, text, first = stack.pop()
            head = ''
            if re.match(r'\s*[,{]', code[at + 1:at + 200]):  # y_{x} of a constructor's initialisers
                head, head_line = text, first
            elif kind == 'function':
                found.append((text, first, line))
        elif c == ';':
            head = ''
        else:
            if not head.strip():
                head_line = line
            head += c
    return found


def kind_of(head):
    """What a brace after these words opens: a 'scope' (namespace, class), a 'function' or an 'inner' initialiser."""
    while True:
        shorter = re.sub(r'<[^<>]*>', '', head)
        if shorter == head:
            break
        head = shorter
    if re.search(r'\b(namespace|class|struct|union|enum)\b', head) or head.split()[:1] == ['extern']:
        return 'scope'
    return 'function' if ')' in head else 'inner'


def check_file(name, text):
    """Problems and remarks of one file; `name` is relative to the root."""
    problems, remarks = [], []
    lines = text.splitlines()
    base = name.rsplit('/', 1)[-1]
    for pattern, meaning, prefixes, not_in_tests in FORBIDDEN:
        if not name.startswith(prefixes) or (not_in_tests and '_test.' in name):
            continue
        for number, line in enumerate(lines, 1):
            if pattern.search(line):
                problems.append(f'{name}:{number}: {meaning}')
    if base == 'CMakeLists.txt' and len(lines) > MAX_CMAKE_LINES:
        problems.append(f'{name}:1: {len(lines)} lines, a CMakeLists.txt has at most {MAX_CMAKE_LINES}')
    if not name.endswith(CODE + ('.py',)):
        return problems, remarks
    if len(lines) > MAX_LINES:
        problems.append(f'{name}:1: {len(lines)} lines, at most {MAX_LINES}')
    elif len(lines) > SOFT_LINES:
        remarks.append(f'{name}:1: {len(lines)} lines, better at most {SOFT_LINES}')
    if name.endswith(('.h', '.cuh')) and '#pragma once' not in lines:
        problems.append(f'{name}:1: a header begins with #pragma once')
    if name.endswith(CODE) and '_test.' not in name and not name.startswith(ANY_LENGTH):
        for head, first, last in functions(text):
            if last - first + 1 > MAX_FUNCTION_LINES and not KERNEL.search(head):
                problems.append(f'{name}:{first}: a function of {last - first + 1} lines, at most '
                                f'{MAX_FUNCTION_LINES}: {" ".join(head.split())[:60]}')
    return problems, remarks


def main():
    names = subprocess.run(['git', 'ls-files'], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split('\n')
    problems, remarks, checked = [], [], 0
    for name in names:
        path = ROOT / name
        wanted = name.endswith(TEXT) or name.rsplit('/', 1)[-1] in TEXT_NAMES
        if not name or not wanted or name.startswith(DATA) or not path.is_file():
            continue
        checked += 1
        found, said = check_file(name, path.read_text(encoding='utf-8'))
        problems += found
        remarks += said
    print('\n'.join(remarks + problems + [f'style: {checked} files, {len(problems)} problems']))
    return 1 if problems or checked == 0 else 0


if __name__ == '__main__':
    sys.exit(main())
