"""The house: packages in one direction, no cycle of files, and files and functions that can be read."""

import ast
import pathlib

# From low to high: a file imports only from its own package and from those before it.
PACKAGES = (
    "common",
    "vision",
    "models",
    "media",
    "detection",
    "replacement",
    "data",
    "metrics",
    "training",
    "pipelines",
    "evaluation",
    "review",
    "cli",
)


def package_of(module):
    """The package of PACKAGES that `module` lies in; None for the root and for what is not ours."""
    parts = module.split(".")
    return parts[1] if parts[0] == "dp3_jax" and len(parts) > 1 else None


def modules(repository):
    for path in [*sorted((repository / "dp3_jax").rglob("*.py")), repository / "launch.py"]:
        parts = path.relative_to(repository).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


def imports(path):
    """Dotted names that a file imports, anywhere in it: modules, and what is taken out of modules."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def wrong_imports(graph):
    """Lines on the imports of {module: names it imports} that lead to a later package."""
    wrong = []
    for module, names in graph.items():
        own = package_of(module)
        for name in sorted(names):
            other = package_of(name)
            if other in PACKAGES and PACKAGES.index(other) > PACKAGES.index(own):
                wrong.append(f"{module} imports {name}")
    return wrong


def test_packages_import_in_one_direction(repository):
    """Late imports count too. The root holds the public names and imports nothing of them itself."""
    graph = {
        name: set(imports(path))
        for name, path in modules(repository)
        if name not in ("dp3_jax", "launch")
    }
    assert {package_of(name) for name in graph} <= set(PACKAGES)
    assert wrong_imports(graph) == []
    lower, upper = "dp3_jax.vision.flow", "dp3_jax.media.photos"
    assert wrong_imports({lower: {upper}, upper: {lower}}) == [f"{lower} imports {upper}"]


def test_the_root_is_the_public_api_and_nothing_else(repository):
    assert [path.name for path in (repository / "dp3_jax").glob("*.py")] == ["__init__.py"]


def import_cycles(graph):
    """Groups of modules each of which imports all others of its group, directly or not."""

    def reached(start):
        found, ahead = set(), [start]
        while ahead:
            for name in graph[ahead.pop()] - found:
                found.add(name)
                ahead.append(name)
        return found

    from_each = {name: reached(name) for name in graph}
    own = {
        name: {other for other in names if name in from_each[other]}
        for name, names in from_each.items()
    }
    return sorted({tuple(sorted(group)) for group in own.values() if len(group) > 1})


def test_no_files_import_each_other_in_a_circle(repository):
    paths = dict(modules(repository))

    def imported(name):
        """The file that holds `name`, which may be a file or something in one."""
        return name if name in paths else name.rpartition(".")[0]

    graph = {
        name: {imported(other) for other in imports(path)} & paths.keys() - {name}
        for name, path in paths.items()
    }
    assert import_cycles(graph) == []
    assert import_cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [("a", "b", "c")]


def test_no_file_is_too_long_to_read(repository):
    """Files part where ideas do; one of more than 500 lines surely holds several."""
    folders = [repository / name for name in ("dp3_jax", "configs", "tests", "benchmarks")]
    paths = [p for folder in folders for p in folder.rglob("*.py")]
    lengths = {str(p.relative_to(repository)): len(p.read_text().splitlines()) for p in paths}
    assert {name: n for name, n in lengths.items() if n > 500} == {}


def test_no_function_is_too_long_to_read(repository):
    """60 lines; the training loop itself and config files, which are lists, may have 150."""
    long = {}
    for folder in ("dp3_jax", "configs", "benchmarks"):
        for path in (repository / folder).rglob("*.py"):
            relative = path.relative_to(repository)
            limit = 150 if folder == "configs" or path.name == "loop.py" else 60
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    length = node.end_lineno - node.lineno + 1
                    if length > limit:
                        long[f"{relative}:{node.name}"] = length
    assert long == {}


def test_there_is_something_to_check(repository):
    assert len(list(modules(pathlib.Path(repository)))) > 20
