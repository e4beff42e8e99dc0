#!/usr/bin/env python3
"""Checks every #include against scripts/layers.toml; prints one line a violation and exits 1 on any.

Tests (*_test.cpp and *_testing.h) may include any folder: they look at a layer from outside.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]')


def read_table(path):
    """The small TOML subset of layers.toml: [section] and "key" = ["value", ...]."""
    sections, current = {}, None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.split('#', 1)[0].strip()
        if not line:
            continue
        if line.startswith('['):
            current = sections.setdefault(line.strip('[]'), {})
            continue
        match = re.fullmatch(r'"([^"]+)"\s*=\s*\[(.*)\]', line)
        if match is None:
            sys.exit(f'{path}:{number}: malformed line')
        current[match.group(1)] = re.findall(r'"([^"]+)"', match.group(2))
    return sections


def closure(layers):
    allowed = {}

    def visit(name, path):
        if name in path:
            sys.exit(f'layers.toml: cycle {" -> ".join(path + [name])}')
        if name not in layers:
            sys.exit(f'layers.toml: {name} is not declared')
        if name not in allowed:
            allowed[name] = {name}
            for dep in layers[name]:
                allowed[name] |= visit(dep, path + [name])
        return allowed[name]

    for name in layers:
        visit(name, [])
    return allowed


def owner(path, layers):
    """Longest declared folder that holds the file."""
    best = None
    for name in layers:
        if path.startswith(name + '/') and (best is None or len(name) > len(best)):
            best = name
    return best


def main():
    table = read_table(ROOT / 'scripts' / 'layers.toml')
    layers, fences = table['layers'], table['fences']
    allowed = closure(layers)
    problems, checked = [], 0
    for folder in ('include', 'src', 'tools'):
        for file in sorted((ROOT / folder).rglob('*')):
            name = str(file.relative_to(ROOT))
            if file.suffix not in ('.h', '.cpp', '.cu', '.cuh', '.inc') or name.endswith(('_test.cpp', '_testing.h')):
                continue
            layer = owner(name, layers)
            if layer is None:
                problems.append(f'{name}:1: folder is not declared in layers.toml')
                continue
            checked += 1
            for number, line in enumerate(file.read_text().splitlines(), 1):
                match = INCLUDE.match(line)
                if match is None:
                    continue
                target = match.group(2)
                for prefix, homes in fences.items():
                    if match.group(1) == '<' and target.startswith(prefix) and not any(
                            name.startswith(home + '/') for home in homes):
                        problems.append(f'{name}:{number}: {layer} may not include <{target}>')
                if match.group(1) == '<':
                    continue
                for root in ('src', 'include'):
                    if (ROOT / root / target).exists():
                        wanted = owner(f'{root}/{target}', layers)
                        if wanted not in allowed[layer] and wanted != 'include':
                            problems.append(f'{name}:{number}: {layer} may not include {target}')
                        break
    print('\n'.join(problems) if problems else f'layers: {checked} files respect layers.toml')
    return 1 if problems or checked == 0 else 0


if __name__ == '__main__':
    sys.exit(main())
