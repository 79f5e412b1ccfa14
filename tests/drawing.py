"""The rooms of benchmark/ as numbers: ``python -m tests.drawing`` prints what imports what.

A room is a package of ``benchmark/``, ``protocols`` as a whole, or a module on the top floor. An
arrow goes from the room that imports to the room that is imported; a room's floor is one above
the highest room it imports.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
Arrows = dict[str, set[str]]


def modules(*packages: str) -> dict[str, Path]:
    """Return the file of every module below the packages, by dotted name."""
    found = {}
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(source: str) -> set[str]:
    """Return every dotted name that ``source`` imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def arrows(sources: dict[str, str]) -> Arrows:
    """Return for each module the modules it imports; sources by dotted name."""
    return {
        name: {_owner(target, sources) for target in imported(text)} - {name, ""}
        for name, text in sources.items()
    }


def _owner(target: str, known: dict[str, str]) -> str:
    """Return the module that an imported name lies in, "" for one of another project."""
    if target in known:
        return target
    parent = target.rpartition(".")[0]
    return parent if parent in known else ""


def room(module: str) -> str:
    """Return the room of a module: the second part of its name, or ``protocols``."""
    parts = module.split(".")
    return parts[1] if parts[0] == "benchmark" and len(parts) > 1 else parts[0]


def between_rooms(found: Arrows) -> Arrows:
    """Return the arrows between rooms, those inside a room left out."""
    rooms: Arrows = defaultdict(set)
    for module, targets in found.items():
        rooms[room(module)] |= {room(target) for target in targets} - {room(module)}
    return dict(rooms)


def circle(found: Arrows) -> list[str]:
    """Return the modules of one circle of imports, [] without any."""
    done: set[str] = set()

    def walk(module: str, way: list[str]) -> list[str]:
        if module in way:
            return way[way.index(module) :]
        if module in done:
            return []
        for target in sorted(found.get(module, ())):
            if met := walk(target, [*way, module]):
                return met
        done.add(module)
        return []

    return next((met for module in sorted(found) if (met := walk(module, []))), [])


def floors(rooms: Arrows) -> dict[str, int]:
    """Return every room's floor, 1 for those that import no other."""
    known: dict[str, int] = {}

    def floor(name: str) -> int:
        if name not in known:
            known[name] = 1 + max(map(floor, rooms.get(name, ())), default=0)
        return known[name]

    return {name: floor(name) for name in rooms}


def longest() -> tuple[tuple[int, str], tuple[int, str]]:
    """Return (lines, name) of the longest module and of the longest function."""
    sizes, functions = [], []
    for name, path in modules("benchmark", "protocols").items():
        text = path.read_text(encoding="utf-8")
        sizes.append((text.count("\n"), name))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or 0) - node.lineno + 1
                functions.append((lines, f"{name}.{node.name}"))
    return max(sizes), max(functions)


def main() -> None:
    """Print rooms by floor, their modules and arrows, and whether there is a circle."""
    sources = {n: p.read_text("utf-8") for n, p in modules("benchmark", "protocols").items()}
    found = arrows(sources)
    rooms = between_rooms(found)
    high = floors(rooms)
    for name in sorted(rooms, key=lambda name: (-high[name], name)):
        count = sum(room(module) == name for module in sources)
        print(f"{high[name]}  {name:12} {count:3} modules -> {', '.join(sorted(rooms[name]))}")
    total = sum(map(len, rooms.values()))
    print(f"{len(rooms)} rooms, {max(high.values())} floors, {total} arrows between rooms")
    print(f"{sum(map(len, found.values()))} arrows between modules")
    print(f"circle: {' -> '.join(circle(found)) or 'none'}")
    (lines, module), (body, function) = longest()
    print(f"longest module {lines} lines: {module}; longest function {body} lines: {function}")


if __name__ == "__main__":
    main()
